"""How many bytes a pass holds: a GPU's allocator tells, on a CPU live tensors are counted."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """Bytes of all storages that operations made since the mode was entered and that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._alive: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        known = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in known and storage._cdata not in self._alive:
                    self._alive.add(storage._cdata)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _freed(self, key: int, size: int) -> None:
        self._alive.discard(key)
        self.now -= size


def peak_bytes(step: Callable[[], object]) -> int:
    """The most bytes that `step` holds at once, beyond what was there before."""
    with Allocations() as allocations:
        step()
    return allocations.peak


class Meter(Protocol):
    """Bytes beyond what was there when it was switched on."""

    def now(self) -> int:
        """Bytes held."""
        ...

    def peak(self) -> int:
        """The most bytes held since it was switched on or restarted."""
        ...

    def restart(self) -> None:
        """Forget the peak."""
        ...


class _Counter:
    def __init__(self, allocations: Allocations) -> None:
        self._allocations = allocations

    def now(self) -> int:
        return self._allocations.now

    def peak(self) -> int:
        return self._allocations.peak

    def restart(self) -> None:
        self._allocations.peak = self._allocations.now


class _Allocator:
    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = torch.cuda.memory_allocated(device)
        self.restart()

    def now(self) -> int:
        return torch.cuda.memory_allocated(self._device) - self._before

    def peak(self) -> int:
        return torch.cuda.max_memory_allocated(self._device) - self._before

    def restart(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)


@contextmanager
def metered(device: torch.device) -> Iterator[Meter]:
    """Count the bytes of what runs in the block."""
    if device.type == "cuda":
        yield _Allocator(device)
        return
    with Allocations() as allocations:
        yield _Counter(allocations)
