"""How a decoded image is fitted to its place in a batch: scaled, cropped, flipped, its conditions in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from headrace.images.headers import BadImage, dimensions
from headrace.loading.order.hashing import mix

BATCHES = 16
"""how many consecutive batches are sorted into buckets together"""


class Buckets:
    """Sizes (height, width) that images are scaled and cropped to. Each image goes to the one nearest in shape."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self.sizes = tuple(sizes)
        self._ratios = np.log([width / height for height, width in sizes])

    def nearest(self, height: int, width: int) -> int:
        """The bucket of an image: the one whose log(width / height) is closest to the image's."""
        return int(np.abs(self._ratios - np.log(width / height)).argmin())

    def of(self, shards: np.ndarray, rows: np.ndarray, column: str) -> np.ndarray:
        """The bucket of each sample, int64, from the header of its image. Bad images go to the first."""
        found = np.zeros(len(rows), np.int64)
        for place, (shard, row) in enumerate(zip(shards, rows.tolist(), strict=True)):
            picture = int(shard.pictures[column].picture_of_row[row]) if shard is not None else -1
            if picture >= 0:
                try:
                    found[place] = self.nearest(*dimensions(shard.pictures[column].encoded.bytes_of(picture)))
                except BadImage:
                    continue
        return found


Crop = Literal["none", "centre", "random"]


@dataclass(frozen=True)
class Geometry:
    """`size` (height, width) is the size that images get; None: they keep the size that they are stored in."""

    size: tuple[int, int] | None = None
    crop: Crop = "none"
    """`none`: images are stretched to `size`; else they are scaled to cover `size` and cropped, centred or at random"""
    flip: float = 0.0
    """the share of samples that are mirrored, left to right"""

    @property
    def random(self) -> bool:
        """Whether crop or flip need random numbers."""
        return self.crop == "random" or self.flip > 0

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that an image of this height and width is scaled to before it is cropped."""
        if self.size is None:
            return height, width
        if self.crop == "none":
            return self.size
        scale = max(self.size[0] / height, self.size[1] / width)
        return max(self.size[0], round(height * scale)), max(self.size[1], round(width * scale))

    def place(self, pixels: np.ndarray, room_CHW: np.ndarray, draw: int) -> None:
        """Crop, flip and copy H×W×3 or H×W pixels to C×H×W. `draw`: 64 random bits of the sample.

        Raises BadImage if the result does not have the size of `room_CHW`.
        """
        height, width = room_CHW.shape[1:]
        if self.crop != "none":
            down, right = pixels.shape[0] - height, pixels.shape[1] - width
            top, left = down // 2, right // 2
            if self.crop == "random":
                top, left = (mix(draw, 0) * (down + 1)) >> 64, (mix(draw, 1) * (right + 1)) >> 64
            pixels = pixels[top : top + height, left : left + width]
        if pixels.shape[:2] != (height, width):
            found = "×".join(map(str, pixels.shape[:2]))
            raise BadImage(f"found {found} pixels, expected {height}×{width} as in the batch (or give size=)")
        if self.flip and mix(draw, 2) < self.flip * 2**64:
            pixels = cv2.flip(pixels, 1)
        if pixels.ndim == 2:
            room_CHW[0] = pixels
        else:
            # several times faster than a strided copy
            cv2.split(pixels, [room_CHW[0], room_CHW[1], room_CHW[2]])
