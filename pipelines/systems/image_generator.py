"""What is asked of a trained system, and what draws it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from headrace.recipe.training import Sampling


@dataclass(frozen=True)
class SampleRequest:
    """N images that are asked for, and what each is to show."""

    captions: Sequence[str | None]
    """N captions"""
    labels: Tensor | None = None
    """int64 [N], if classes are asked for"""
    conditions: Tensor | None = None
    """uint8 [N, C, H, W], if conditions are to be obeyed"""
    images: Tensor | None = None
    """uint8 [N, C, H, W], if images are to be drawn again"""
    first: int = 0
    """the number of the first of them: all randomness of image i follows from (seed, first + i) alone"""

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
    """A trained system that draws images."""

    def draw(self, request: SampleRequest, sampling: Sampling) -> Tensor:
        """The images asked for: uint8 [N, C, H, W] on the CPU. How many are asked for at once changes nothing."""
        ...
