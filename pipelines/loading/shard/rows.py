"""Which rows of a shard are its samples: every row, or one row for each image, in turn or drawn by weight."""

from __future__ import annotations

from typing import Literal

import numpy as np

from headrace.loading.order.hashing import Stream, hashes, hashes_at, mix

Captions = Literal["all", "one_per_image", "weighted"]


class EveryRow:
    """Each row is a sample."""

    nbytes = 0
    """bytes of memory that the numbers of rows take"""

    def __init__(self, rows: int) -> None:
        self.count = rows

    def rows(self, samples: np.ndarray, epoch: int) -> np.ndarray:
        """The row numbers of `samples` in `epoch`, int64."""
        return samples


class OneRowPerImage:
    """Each image is a sample. Its rows alternate, one in each epoch, from a hashed starting row.

    An image with k captions thus yields each of them once in k epochs. Images are numbered by their first row. Each row
    whose key is null (−1) is an image of its own.
    """

    def __init__(self, key_of_row: np.ndarray, seed: int, shard: int) -> None:
        self._seed = mix(seed, Stream.CAPTIONS, shard)
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
        self._first = (hashes(self._seed, len(places)) >> np.uint64(33)).astype(np.int64)
        self.count = len(places)
        self.nbytes = self._rows.nbytes + self._counts.nbytes + self._starts.nbytes + self._first.nbytes

    def rows(self, samples: np.ndarray, epoch: int) -> np.ndarray:
        """The row numbers of `samples` in `epoch`, int64."""
        return self._rows[self._starts[samples] + (self._first[samples] + epoch) % self._counts[samples]]


class WeightedRowPerImage(OneRowPerImage):
    """Each image is a sample. Its row is drawn anew in each epoch, in proportion to `weights`."""

    def __init__(self, key_of_row: np.ndarray, weights: np.ndarray, seed: int, shard: int) -> None:
        """`weights` has one number for each row.

        Raises ValueError if one is negative or not finite, or if all weights of an image are 0.
        """
        super().__init__(key_of_row, seed, shard)
        if not np.isfinite(weights).all() or weights.min(initial=0) < 0:
            raise ValueError("found a weight that is negative or not finite, expected 0 or more")
        self._ends = np.cumsum(weights[self._rows].astype(np.float64))
        last = self._ends[self._starts + self._counts - 1]
        self._before = np.concatenate([[0.0], last[:-1]])
        self._totals = last - self._before
        if not (self._totals > 0).all():
            raise ValueError("found an image whose weights are all 0, expected one above 0")
        self.nbytes += self._ends.nbytes + self._before.nbytes + self._totals.nbytes

    def rows(self, samples: np.ndarray, epoch: int) -> np.ndarray:
        """The row numbers of `samples` in `epoch`, int64."""
        uniform = (hashes_at(mix(self._seed, epoch), samples) >> np.uint64(11)) / 2.0**53
        places = np.searchsorted(self._ends, self._before[samples] + uniform * self._totals[samples], "right")
        return self._rows[np.clip(places, self._starts[samples], self._starts[samples] + self._counts[samples] - 1)]


def count_images(key_of_row: np.ndarray) -> int:
    """The number of images, as OneRowPerImage counts them."""
    nulls = key_of_row < 0
    return len(np.unique(key_of_row[~nulls])) + int(nulls.sum())
