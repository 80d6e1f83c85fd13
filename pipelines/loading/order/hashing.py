"""Random numbers that are a pure function of integers, and the same with every version of every library."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from headrace.splitmix import GOLDEN, finalize, signed


class Stream(IntEnum):
    """What a random number is for; each purpose has its own stream. The values fix the order: never change them."""

    SHARDS = 0
    WINDOW = 1
    CAPTIONS = 2
    GEOMETRY = 3
    DROP = 4


_MASK = (1 << 64) - 1


def mix(*parts: int) -> int:
    """A 64-bit hash of integers: each part is absorbed by one round of splitmix64 (Steele et al., 2014)."""
    state = 0
    for part in parts:
        state = finalize((state ^ (part & _MASK)) + GOLDEN) & _MASK
    return state


def hashes(seed: int, count: int) -> np.ndarray:
    """`count` distinct 64-bit hashes, uint64: splitmix64's stream from `seed`."""
    return hashes_at(seed, np.arange(count))


def hashes_at(seed: int, places: np.ndarray) -> np.ndarray:
    """The elements of `hashes(seed, …)` at `places`, uint64."""
    x = (places.astype(np.int64) + 1) * GOLDEN + signed(seed)
    return finalize(x).view(np.uint64)


def permutation(seed: int, count: int) -> np.ndarray:
    """A random permutation of range(count), int64, fixed by `seed`.

    The index is stored in the low bits of its hash, so that a plain sort does the work, several times faster than
    argsort.
    """
    if count <= 1:
        return np.zeros(count, np.int64)
    bits = np.uint64((count - 1).bit_length())
    keys = (hashes(seed, count) >> bits) << bits | np.arange(count, dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64((1 << int(bits)) - 1)).astype(np.int64)
