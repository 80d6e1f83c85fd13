"""Memory of batches: pinned where CUDA is there, else used again once nobody holds the batch any more.

Fresh memory costs a page fault for each 4 kB, which for decoded images is a good part of decoding them. (Pinned memory
comes from PyTorch's own cache, which also knows of copies to the GPU that are still under way.)
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict

import numpy as np
import torch

_LARGE = 1 << 16


class Memory:
    """Gives out arrays and takes them back by itself; keeps at most `spare` free ones of each size."""

    def __init__(self, spare: int) -> None:
        self._spare = spare
        self._free: defaultdict[int, list[np.ndarray]] = defaultdict(list)
        self._lock = threading.RLock()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of `shape` with anything in it. It is used again when no array or tensor shares its memory."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if torch.cuda.is_available():
            return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True).numpy().view(dtype).reshape(shape)
        if nbytes < _LARGE:
            return np.empty(shape, dtype)
        with self._lock:
            memory = self._free[nbytes].pop() if self._free[nbytes] else np.empty(nbytes, np.uint8)
        # Whatever shares the memory refers to `owner` (its base is no array), so `owner` dies with the last of them.
        owner = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(owner, _take_back, weakref.ref(self), memory).atexit = False
        return owner.view(dtype).reshape(shape)

    def take_back(self, memory: np.ndarray) -> None:
        """Keep memory that is free again, unless there is enough of it."""
        with self._lock:
            if len(self._free[memory.nbytes]) < self._spare:
                self._free[memory.nbytes].append(memory)


def _take_back(owner: weakref.ref[Memory], memory: np.ndarray) -> None:
    found = owner()
    if found is not None:
        found.take_back(memory)
