"""How many bytes a pass holds: a GPU's allocator tells, on a CPU live tensors are counted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

from pipelines.training.activation.allocations import Allocations


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
