"""How much of a pass went into computing again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipelines.training.activation.recompute import Watch


class Clock(Watch):
    """Seconds of a pass, and of the second runs in it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.seconds_again = 0.0
        self._device = torch.device("cpu")
        self._started = 0.0

    def start(self, device: torch.device) -> None:
        """The pass begins."""
        self._device = device
        self.seconds_again = 0.0
        self._started = self._now()

    def stop(self) -> None:
        """The pass is over."""
        self.seconds = self._now() - self._started

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Count the block as computing again."""
        started = self._now()
        yield
        self.seconds_again += self._now() - started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
