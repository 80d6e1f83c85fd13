"""Memory of batches: pinned if CUDA is available, otherwise reused once nothing refers to the batch any more.

Fresh memory costs a page fault for each 4 kB, which is a good part of the time it takes to decode an image. Pinned
memory comes from PyTorch's own cache, which also keeps track of copies to the GPU that are still under way.
"""

from __future__ import annotations

import threading
import weakref
from collections import defaultdict

import numpy as np
import torch

_LARGE = 1 << 16


class Memory:
    """Hands out arrays and takes their memory back by itself; keeps at most `spare` free ones of each size."""

    def __init__(self, spare: int) -> None:
        self._spare = spare
        self._free: defaultdict[int, list[np.ndarray]] = defaultdict(list)
        self._lock = threading.RLock()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An uninitialised array. Its memory is reused once no array or tensor refers to it."""
        nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if torch.cuda.is_available():
            return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True).numpy().view(dtype).reshape(shape)
        if nbytes < _LARGE:
            return np.empty(shape, dtype)
        with self._lock:
            memory = self._free[nbytes].pop() if self._free[nbytes] else np.empty(nbytes, np.uint8)
        # `owner` has no base array, so all that shares the memory refers to it, and it dies with the last of them.
        owner = np.frombuffer(memory.data, np.uint8)
        weakref.finalize(owner, _take_back, weakref.ref(self), memory).atexit = False
        return owner.view(dtype).reshape(shape)

    def take_back(self, memory: np.ndarray) -> None:
        """Keep free memory for reuse, unless there is enough of this size already."""
        with self._lock:
            if len(self._free[memory.nbytes]) < self._spare:
                self._free[memory.nbytes].append(memory)


def _take_back(owner: weakref.ref[Memory], memory: np.ndarray) -> None:
    found = owner()
    if found is not None:
        found.take_back(memory)
