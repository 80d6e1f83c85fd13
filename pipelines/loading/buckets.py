"""Aspect-ratio buckets: images of like shape come in one batch, so that little is cut off them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipelines.loading.decode import BadImage, dimensions

BATCHES = 16
"""consecutive batches whose samples are sorted by bucket together"""


class Buckets:
    """Sizes (height, width) that images are scaled and cut to; each image goes to the one nearest in shape."""

    def __init__(self, sizes: Sequence[tuple[int, int]]) -> None:
        self.sizes = tuple(sizes)
        self._ratios = np.log([width / height for height, width in sizes])

    def nearest(self, height: int, width: int) -> int:
        """The bucket of an image: the one whose log(width / height) differs least."""
        return int(np.abs(self._ratios - np.log(width / height)).argmin())

    def of(self, shards: np.ndarray, rows: np.ndarray, column: str) -> np.ndarray:
        """The bucket of each sample, int64, by the header of its image; that of a bad one is the first."""
        found = np.zeros(len(rows), np.int64)
        for place, (shard, row) in enumerate(zip(shards, rows.tolist(), strict=True)):
            picture = int(shard.pictures[column].picture_of_row[row]) if shard is not None else -1
            if picture >= 0:
                try:
                    found[place] = self.nearest(*dimensions(shard.pictures[column].encoded.bytes_of(picture)))
                except BadImage:
                    continue
        return found
