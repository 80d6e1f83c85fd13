"""The condition images of samples: from files, or from the dataset's examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from headrace.errors import DataError, RecipeError
from headrace.images.formats import BadImage
from headrace.images.pixels import decode
from headrace.systems.image_generator import SampleRequest


def stack(files: Sequence[Sequence[str]], request: SampleRequest, shape: tuple[int, int, int]) -> Tensor:
    """The condition of each row for each ControlNet: uint8 [rows, ControlNets, H, W].

    `files` lists the files of each ControlNet. A ControlNet without files gets the conditions of the examples. Raises
    RecipeError if there is not a condition for each row, DataError for a file of the wrong size or that is no image.
    """
    found: list[Tensor] = []
    for paths in files:
        if paths and len(paths) != len(request):
            raise RecipeError(
                f"sampling.conditions: found {len(paths)} files, expected {len(request)}, one for each row"
            )
        if paths:
            found.append(torch.stack([_read(path, shape[1:]) for path in paths]))
        elif request.conditions is not None:
            found.append(request.conditions)
        else:
            expected = "expected an image file for each row, or sampling.examples of a dataset with data.condition"
            raise RecipeError(f"sampling.conditions: found none, {expected}")
    return torch.cat(found, 1)


def _read(path: str, size: tuple[int, int]) -> Tensor:
    """The image in a file, as grey: uint8 [1, H, W]."""
    try:
        pixels = decode(np.frombuffer(Path(path).read_bytes(), np.uint8), "gray").copy()
    except OSError as error:
        raise DataError(f"{path}: found {(error.strerror or 'nothing').lower()}, expected an image") from None
    except BadImage as error:
        raise DataError(f"{path}: found no image ({error}), expected one") from None
    if pixels.shape != size:
        found = f"found a condition of {pixels.shape[0]}×{pixels.shape[1]} pixels"
        raise DataError(f"{path}: {found}, expected {size[0]}×{size[1]} as the samples")
    return torch.from_numpy(pixels)[None]
