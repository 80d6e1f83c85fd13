"""Where a run's time goes: speed, waits for the loader, stalls of saves, memory."""

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

LINE_EVERY_SECONDS = 10.0
SMOOTHING = 0.95


class Timing:
    """Clocks of a run. Every few seconds a line goes to `timings.jsonl`, apart from the metrics, which have no clock.

    A line: `step`, `seconds` covered, `samples_per_second`, `waiting` (share of the time spent waiting for the loader),
    `saving` (share spent in saves), `memory_bytes` (peak of the GPU's allocator, or of the process without a GPU).
    """

    def __init__(self, path: Path | None, device: torch.device) -> None:
        self._path, self._device = path, device
        self._loss: float | None = None
        self._step = 0
        self._start()
        self._rate = self._waits = 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the block as waiting for the loader."""
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Count the block as stalled by a save."""
        started = time.monotonic()
        yield
        self._saved += time.monotonic() - started

    def step(self, number: int, loss: float, samples: int) -> None:
        """Count step `number`, of so many samples."""
        self._step = number
        self._samples += samples
        self._loss = loss if self._loss is None else SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        seconds = time.monotonic() - self._started
        self._rate, self._waits = self._samples / seconds, self._waited / seconds
        if seconds >= LINE_EVERY_SECONDS:
            self._write()

    def shown(self) -> dict[str, str]:
        """What the progress bar shows."""
        loss = "…" if self._loss is None else f"{self._loss:.4f}"
        return {"loss": loss, "samples/s": f"{self._rate:.0f}", "loader wait": f"{self._waits:.0%}"}

    def close(self) -> None:
        """Write what has been counted since the last line."""
        if self._samples:
            self._write()

    def _start(self) -> None:
        self._started = time.monotonic()
        self._samples = 0
        self._waited = self._saved = 0.0

    def _write(self) -> None:
        seconds = time.monotonic() - self._started
        line = {
            "step": self._step,
            "seconds": round(seconds, 3),
            "samples_per_second": round(self._samples / seconds, 2),
            "waiting": round(self._waited / seconds, 4),
            "saving": round(self._saved / seconds, 4),
            "memory_bytes": self._memory(),
        }
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + os.linesep)
        self._start()

    def _memory(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
