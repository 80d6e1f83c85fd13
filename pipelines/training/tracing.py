"""A trace of a few steps, for chrome://tracing or Perfetto."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

SKIPPED, WARMED, RECORDED = 3, 1, 3
ROWS = 15


@contextmanager
def trace(path: Path) -> Iterator[Any]:
    """Trace steps 5 to 7 of those that follow into `path`; call `.step()` on what this yields after each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])

    def write(profiled: Any) -> None:
        profiled.export_chrome_trace(str(path))
        by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table = profiled.key_averages().table(sort_by=by, row_limit=ROWS)
        path.with_suffix(".txt").write_text(table, encoding="utf-8")

    with profile(
        activities=activities,
        schedule=schedule(wait=SKIPPED, warmup=WARMED, active=RECORDED, repeat=1),
        on_trace_ready=write,
        record_shapes=True,
        profile_memory=True,
        acc_events=True,
    ) as profiled:
        yield profiled
