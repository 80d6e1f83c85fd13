"""How many bytes a pass holds: by the allocator's own statistics on a GPU, by counting live storages on a CPU.

`metered` gives the meter of a device. `Allocations`, the CPU's, is a dispatch mode that sees every operation.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Meter(Protocol):
    """Bytes held beyond those held when the meter was switched on."""

    def now(self) -> int:
        """Bytes held now."""
        ...

    def peak(self) -> int:
        """The most bytes held at once since the meter was switched on or restarted."""
        ...

    def restart(self) -> None:
        """Forget the peak."""
        ...


@contextmanager
def metered(device: torch.device) -> Iterator[Meter]:
    """A meter of what runs on `device` inside the context."""
    if device.type == "cuda":
        yield _Allocator(device)
        return
    with Allocations() as allocations:
        yield _Counter(allocations)


def peak_bytes(step: Callable[[], object]) -> int:
    """The most bytes that `step` holds at once on the CPU, beyond those held before."""
    with Allocations() as allocations:
        step()
    return allocations.peak


class Allocations(TorchDispatchMode):
    """Bytes of all live storages that operations have made since the mode was entered."""

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
