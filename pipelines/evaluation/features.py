"""Networks that extract features, to compare sets of images, and labels of what the images show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from headrace.errors import DataError, RecipeError
from headrace.models import Classifier
from headrace.models.pixels import from_uint8
from headrace.runs.frozen import BaseRun
from headrace.systems import classifier


class Features(NamedTuple):
    """Features of N images, on the CPU."""

    features: Tensor
    """float32 [N, D]"""
    labels: Tensor | None
    """int64 [N]: the most likely label of each; None if the network has no labels"""

    def part(self, count: int) -> Features:
        """The features of the first `count` images."""
        return Features(self.features[:count], None if self.labels is None else self.labels[:count])


class FeatureExtractor(Protocol):
    """A network that extracts features."""

    @property
    def name(self) -> str:
        """Its name in a report."""
        ...

    def extract(self, images_NCHW: Tensor) -> Features:
        """The features of uint8 images [N, C, H, W] of any size, grey or RGB."""
        ...


@dataclass(frozen=True)
class ClassifierExtractor:
    """A classifier that headrace trained."""

    model: Classifier
    name: str
    device: torch.device

    @property
    def classes(self) -> int:
        """The number of its labels."""
        return self.model.labels

    @torch.no_grad()
    def extract(self, images_NCHW: Tensor) -> Features:
        """The input of the last layer and the most likely labels, after scaling the images to the training size."""
        pixels = fitted(images_NCHW.to(self.device), self.model.image_shape)
        features_ND = self.model.features(from_uint8(pixels))
        return Features(features_ND.float().cpu(), self.model.logits(features_ND).argmax(1).cpu())


@dataclass(frozen=True)
class ScriptedExtractor:
    """A feature network from a TorchScript file: uint8 RGB images in, features [N, D] out.

    The published Inception networks for FID have this form; they take an argument `return_features`.
    """

    module: torch.jit.ScriptModule
    name: str
    device: torch.device

    @torch.no_grad()
    def extract(self, images_NCHW: Tensor) -> Features:
        """The features of images at their own size; the network may resize them.

        Raises DataError if it returns anything else.
        """
        rgb = images_NCHW.expand(-1, 3, -1, -1) if images_NCHW.shape[1] == 1 else images_NCHW
        arguments = self.module._c._get_method("forward").schema.arguments
        options = {"return_features": True} if any(each.name == "return_features" for each in arguments) else {}
        features_ND = self.module(rgb.to(self.device), **options)
        if not isinstance(features_ND, Tensor) or features_ND.dim() != 2 or len(features_ND) != len(rgb):
            found = list(features_ND.shape) if isinstance(features_ND, Tensor) else type(features_ND).__name__
            raise DataError(f"{self.name}: found {found} for {len(rgb)} images, expected features [N, D]")
        return Features(features_ND.float().cpu(), None)


def open_extractor(path: str, key: str, device: torch.device) -> FeatureExtractor:
    """The run folder of a classifier or the TorchScript file at `path`, which the recipe's `key` names.

    Raises RecipeError if it is neither, DataError if the run has no checkpoint yet.
    """
    if Path(path).is_dir():
        return open_classifier(path, key, device)
    if not Path(path).is_file():
        raise RecipeError(
            f"{key}: found nothing at {path}, expected a run folder of a classifier or a TorchScript file"
        )
    try:
        module = torch.jit.load(path, map_location=device)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise RecipeError(f"{key}: found no TorchScript file at {path}: {reason}") from None
    return ScriptedExtractor(module.eval(), f"TorchScript file {path}", device)


def open_classifier(path: str, key: str, device: torch.device) -> ClassifierExtractor:
    """The trained classifier of the run at `path`. Raises RecipeError or DataError as `open_extractor` does."""
    return classifier_extractor(classifier.open_run(path, key), device)


def classifier_extractor(run: BaseRun, device: torch.device) -> ClassifierExtractor:
    """The trained classifier of a run. Raises DataError if the run has no checkpoint yet."""
    checkpoint = run.newest()
    name = f"classifier {run.folder.path}, step {checkpoint.step:,}"
    return ClassifierExtractor(run.network(checkpoint, device), name, device)


def extract(
    extractor: FeatureExtractor, images_NCHW: Tensor, batch_size: int, done: Callable[[int], None] = lambda count: None
) -> Features:
    """The features of uint8 images [N, C, H, W], `batch_size` at a time. `done(count)` is called after each batch."""
    parts = []
    for part in images_NCHW.split(batch_size):
        parts.append(extractor.extract(part))
        done(len(part))
    labels = [part.labels for part in parts if part.labels is not None]
    return Features(torch.cat([part.features for part in parts]), torch.cat(labels) if labels else None)


def fitted(images_NCHW: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """uint8 images as float32 of `shape` (channels, height, width) in [0, 255], resized with antialiasing.

    Grey images are copied to each channel; RGB images are reduced to luma.
    """
    channels, *size = shape
    pixels = images_NCHW.float()
    if pixels.shape[1] == 3 and channels == 1:  # ITU-R BT.601, as in image decoders
        pixels = torch.einsum("nchw,c->nhw", pixels, pixels.new_tensor([0.299, 0.587, 0.114]))[:, None]
    elif pixels.shape[1] != channels:
        pixels = pixels.expand(-1, channels, -1, -1)
    if list(pixels.shape[-2:]) != size:
        pixels = F.interpolate(pixels, size=size, mode="bilinear", antialias=True).clamp(0, 255)
    return pixels
