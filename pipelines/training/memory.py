"""One-line errors for a batch that does not fit into memory."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from headrace.errors import RecipeError
from headrace.ranks.workers import Workers
from headrace.recipe.training import Data, Training

FLOAT32 = 4
GIB = 1 << 30


def check(data: Data, shape: tuple[int, int, int], workers: Workers) -> None:
    """Raise RecipeError if a rank's share of the images alone, as float32, exceeds the free memory."""
    size = workers.share(data.batch_size) * math.prod(shape) * FLOAT32
    free = _free(workers)
    if size > free:
        found = f"found {data.batch_size:,}, of which a rank's images take {size / GIB:.1f} GiB"
        raise RecipeError(f"data.batch_size: {found}, expected less than the {free / GIB:.1f} GiB that are free")


@contextmanager
def fits(data: Data, training: Training) -> Iterator[None]:
    """Wrap the first step: if memory runs out, raise RecipeError that names the keys to change."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _too_large(data, training) from error
    except RuntimeError as error:
        if "can't allocate memory" in str(error):  # the message of the CPU's allocator
            raise _too_large(data, training) from error
        raise


def _too_large(data: Data, training: Training) -> RecipeError:
    found = f"found {data.batch_size:,} in {training.accumulate} parts, which does not fit into memory"
    expected = "expected fewer, a larger training.accumulate, or training.activation other than "
    return RecipeError(f"data.batch_size: {found}, {expected}{training.activation}")


def _free(workers: Workers) -> int:
    if workers.device.type == "cuda":
        return torch.cuda.mem_get_info(workers.device)[0]
    local = int(os.environ.get("LOCAL_WORLD_SIZE", workers.world_size))
    with open("/proc/meminfo", encoding="ascii") as file:
        free = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    return free // local
