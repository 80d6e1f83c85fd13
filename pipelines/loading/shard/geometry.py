"""How a decoded image is fitted into a batch: scaled, cropped and flipped, and its conditions in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from headrace.images.formats import BadImage
from headrace.images.headers import dimensions
from headrace.loading.order.hashing import mix

BATCHES = 16
"""the number of consecutive batches whose samples are sorted into buckets together"""

Crop = Literal["none", "centre", "random"]


@dataclass(frozen=True)
class Geometry:
    """How every image of a batch is scaled, cropped and flipped."""

    size: tuple[int, int] | None = None
    """(height, width) of the result; None keeps the stored size"""
    crop: Crop = "none"
    """`none` stretches images to `size`; the others scale them to cover `size`, then crop at the centre or at random"""
    flip: float = 0.0
    """the fraction of samples that are mirrored, left to right"""

    @property
    def random(self) -> bool:
        """Whether cropping or flipping needs random numbers."""
        return self.crop == "random" or self.flip > 0

    def scaled(self, height: int, width: int) -> tuple[int, int]:
        """The height and width that an image of this height and width is decoded to.

        Images are scaled down before they are cropped. Those that are scaled up are cropped first, so a long and
        narrow one never takes more memory than a square.
        """
        if self.size is None:
            return height, width
        if self.crop == "none":
            return self.size
        covering = self._covering(height, width)
        return covering if covering <= (height, width) else (height, width)

    def _covering(self, height: int, width: int) -> tuple[int, int]:
        """The height and width at which an image covers the size: one of its sides is that of the size."""
        assert self.size is not None
        scale = max(self.size[0] / height, self.size[1] / width)
        return max(self.size[0], round(height * scale)), max(self.size[1], round(width * scale))

    def stretches(self, height: int, width: int) -> bool:
        """Whether an image of this height and width changes its shape."""
        return self.size is not None and self.crop == "none" and height * self.size[1] != width * self.size[0]

    def place(self, pixels: np.ndarray, room_CHW: np.ndarray, draw: int) -> None:
        """Crop, flip and copy H×W×3 or H×W pixels to C×H×W. `draw` is the sample's 64 random bits.

        Raises BadImage if the result does not have the size of `room_CHW`.
        """
        height, width = room_CHW.shape[1:]
        if self.crop != "none":
            covering = self._covering(*pixels.shape[:2])
            down, right = covering[0] - height, covering[1] - width
            top, left = down // 2, right // 2
            if self.crop == "random":
                top, left = (mix(draw, 0) * (down + 1)) >> 64, (mix(draw, 1) * (right + 1)) >> 64
            if covering != pixels.shape[:2]:
                pixels, top, left = _enlarged(pixels, covering, (top, left), (height, width))
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


def _enlarged(
    pixels: np.ndarray, covering: tuple[int, int], corner: tuple[int, int], size: tuple[int, int]
) -> tuple[np.ndarray, int, int]:
    """The part of an image that has the box of `size` at `corner` after all of it is scaled to `covering`.

    Returns this part, scaled, and where the box is in it: top and left.
    """
    parts, sides, places = [], [], []
    for stored, scaled, at, length in zip(pixels.shape, covering, corner, size, strict=False):
        first = max(0, at * stored // scaled - 1)  # with a pixel on both sides, which is blended into the edge
        last = min(stored, -(-(at + length) * stored // scaled) + 1)
        start, stop = round(first * scaled / stored), round(last * scaled / stored)
        parts.append(slice(first, last))
        sides.append(stop - start)
        places.append(at - start)
    part = cv2.resize(pixels[parts[0], parts[1]], (sides[1], sides[0]), interpolation=cv2.INTER_AREA)
    return part, places[0], places[1]


class Buckets:
    """Sizes (height, width) that images are scaled and cropped to. Each image gets the one nearest to its shape."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self.sizes = tuple(sizes)
        self._ratios = np.log([width / height for height, width in sizes])

    def nearest(self, height: int, width: int) -> int:
        """The bucket of an image: the one whose log(width / height) is closest to the image's."""
        return int(np.abs(self._ratios - np.log(width / height)).argmin())

    def of(self, shards: np.ndarray, rows: np.ndarray, column: str) -> np.ndarray:
        """The bucket of each sample, int64, from its image's header. Bad images go to the first bucket."""
        found = np.zeros(len(rows), np.int64)
        for place, (shard, row) in enumerate(zip(shards, rows.tolist(), strict=True)):
            picture = int(shard.pictures[column].picture_of_row[row]) if shard is not None else -1
            if picture >= 0:
                try:
                    found[place] = self.nearest(*dimensions(shard.pictures[column].encoded.encoded_bytes(picture)))
                except BadImage:
                    continue
        return found
