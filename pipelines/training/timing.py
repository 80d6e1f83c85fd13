"""How a run spends its time: speed, waits for the loader, stalls in saves, and memory."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from headrace.files import atomic, write_text

SKIPPED, WARMED, RECORDED = 3, 1, 3
ROWS = 15


@contextmanager
def trace(path: Path) -> Iterator[Any]:
    """Trace the fifth to seventh step of the block into `path`. After each step, call `.step()` on what this yields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])

    def write(profiled: Any) -> None:
        with atomic(path) as hidden:
            profiled.export_chrome_trace(str(hidden))
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = profiled.key_averages().table(sort_by=by, row_limit=ROWS)
        write_text(path.with_suffix(".txt"), table)

    with profile(
        activities=activities,
        schedule=schedule(wait=SKIPPED, warmup=WARMED, active=RECORDED, repeat=1),
        on_trace_ready=write,
        record_shapes=True,
        profile_memory=True,
        acc_events=True,
    ) as profiled:
        yield profiled


LINE_EVERY_SECONDS = 10.0
SMOOTHING = 0.95


class Timing:
    """The clocks of a run. Every few seconds they add a line to `timings.jsonl`; metrics hold no times.

    A line has `step`, `seconds` (the time it covers), `samples_per_second`, `waiting` (the fraction of the time spent
    waiting for the loader), `saving` (the fraction spent in saves), `evaluating` (the fraction spent in evaluations and
    grids) and `memory_bytes` (the peak of the GPU's allocator, or of the process without a GPU). On a GPU it also has
    `tflops`, the operations per second that the model needs, in 10¹², and `mfu`, their fraction of the GPU's peak
    (Chowdhery et al. 2022, appendix B).
    """

    def __init__(self, path: Path | None, device: torch.device) -> None:
        self._path, self._device = path, device
        self._loss: float | None = None
        self._step = 0
        self._operations: float | None = None
        self._peak: float | None = None
        self._rate = self._waits = self._each = 0.0
        self._start()

    def counts(self, operations: float, peak: float | None) -> None:
        """Set the operations of a step on this rank, and the peak operations per second of the GPU if known."""
        self._operations, self._peak = operations, peak

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time of the block as waiting for the loader."""
        started = time.monotonic()
        yield
        self._waited += time.monotonic() - started

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Count the time of the block as saving."""
        started = time.monotonic()
        yield
        self._saved += time.monotonic() - started

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count the time of the block as evaluation."""
        started = time.monotonic()
        yield
        self._evaluated += time.monotonic() - started

    def step(self, number: int, loss: float | None, samples: int) -> None:
        """Count step `number` with `samples` samples; `loss` is None if it is not finite."""
        self._step = number
        self._samples += samples
        self._steps += 1
        if loss is not None:
            self._loss = loss if self._loss is None else SMOOTHING * self._loss + (1 - SMOOTHING) * loss
        seconds = time.monotonic() - self._started
        if self._each == 0 or seconds >= 1:  # figures come a step late: those of the last two steps come together
            self._each = seconds / self._steps
            self._rate, self._waits = self._samples / seconds, self._waited / seconds
        if seconds >= LINE_EVERY_SECONDS:
            self._write()

    def shown(self, left: int) -> dict[str, str]:
        """The fields of the progress bar, with `left` steps to go."""
        return {
            "loss": "…" if self._loss is None else f"{self._loss:.4f}",
            "samples/s": f"{self._rate:.0f}",
            "loader wait": f"{self._waits:.0%}",
            "memory": f"{self._memory() / 1e9:.1f} GB",
            "left": str(timedelta(seconds=round(left * self._each))),
        }

    def close(self) -> None:
        """Write a last line."""
        if self._samples:
            self._write()

    def _start(self) -> None:
        self._started = time.monotonic()
        self._samples = 0
        self._steps = 0
        self._waited = self._saved = self._evaluated = 0.0

    def _write(self) -> None:
        seconds = time.monotonic() - self._started
        line = {
            "step": self._step,
            "seconds": round(seconds, 3),
            "samples_per_second": round(self._samples / seconds, 2),
            "waiting": round(self._waited / seconds, 4),
            "saving": round(self._saved / seconds, 4),
            "evaluating": round(self._evaluated / seconds, 4),
            "memory_bytes": self._memory(),
        }
        if self._operations is not None:
            done = self._operations * self._steps / seconds
            line["tflops"] = round(done / 1e12, 3)
            if self._peak is not None:
                line["mfu"] = round(done / self._peak, 4)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + os.linesep)
        self._start()

    def _memory(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
