"""What a sample of a shard is: every row, or one row for each image, another one each epoch."""

from __future__ import annotations

from typing import Literal

import numpy as np

from pipelines.loading.hashing import hashes, mix

Captions = Literal["all", "one_per_image"]


class EveryRow:
    """Each row is a sample."""

    def __init__(self, rows: int) -> None:
        self.count = rows

    def rows(self, samples: np.ndarray, epoch: int) -> np.ndarray:
        """The rows that show `samples` in `epoch`."""
        return samples


class OneRowPerImage:
    """Each image is a sample; its rows take turns, one an epoch, starting from a hashed place.

    So an image with k captions shows each of them once in k epochs. Images are numbered by their first row. Rows
    whose key is null (−1) are images of their own.
    """

    def __init__(self, key_of_row: np.ndarray, seed: int, shard: int) -> None:
        keys = key_of_row.copy()
        nulls = keys < 0
        keys[nulls] = keys.max(initial=-1) + 1 + np.arange(int(nulls.sum()))
        _, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        places = np.argsort(first, kind="stable")
        rank = np.empty_like(places)
        rank[places] = np.arange(len(places))
        self._rows = np.argsort(rank[inverse], kind="stable")
        self._counts = counts[places]
        self._starts = np.cumsum(self._counts) - self._counts
        self._turns = (hashes(mix(seed, 2, shard), len(places)) >> np.uint64(33)).astype(np.int64)
        self.count = len(places)

    def rows(self, samples: np.ndarray, epoch: int) -> np.ndarray:
        """The rows that show `samples` in `epoch`."""
        return self._rows[self._starts[samples] + (self._turns[samples] + epoch) % self._counts[samples]]


def count_images(key_of_row: np.ndarray) -> int:
    """The `count` of OneRowPerImage."""
    nulls = key_of_row < 0
    return len(np.unique(key_of_row[~nulls])) + int(nulls.sum())
