"""Requests for samples, and the interface of the image generators that draw them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from headrace.recipe.training import Sampling


@dataclass(frozen=True)
class SampleRequest:
    """A request for N images: what each is conditioned on."""

    captions: Sequence[str | None]
    """N captions; None for no caption"""
    labels: Tensor | None = None
    """int64 [N], for a system with class labels"""
    conditions: Tensor | None = None
    """uint8 [N, C, H, W], for a system with ControlNets"""
    images: Tensor | None = None
    """uint8 [N, C, H, W], images to reconstruct or to invert"""
    first: int = 0
    """the number of the first image; the randomness of image i depends only on (seed, first + i)"""

    def __len__(self) -> int:
        return len(self.captions)

    def part(self, start: int, stop: int) -> SampleRequest:
        """The images from `start` up to `stop`."""
        return SampleRequest(
            self.captions[start:stop],
            None if self.labels is None else self.labels[start:stop],
            None if self.conditions is None else self.conditions[start:stop],
            None if self.images is None else self.images[start:stop],
            self.first + start,
        )


class ImageGenerator(Protocol):
    """Draws images with a trained system."""

    def draw(self, request: SampleRequest, sampling: Sampling) -> Tensor:
        """The requested images: uint8 [N, C, H, W] on the CPU. An image does not depend on the size of the request."""
        ...
