"""Counters of what a loader has done, and where it spends its time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

KEPT_EXAMPLES = 100


@dataclass(frozen=True)
class BadSample:
    """A sample that was left out or replaced."""

    path: str
    row: int
    column: str
    reason: str
    sample_id: Any = None
    """its `sample_id`, if the table has that column"""

    def __str__(self) -> str:
        named = "" if self.sample_id is None else f" (sample_id {self.sample_id})"
        return f"{self.path}: row {self.row}{named}, column {self.column}: {self.reason}"


@dataclass
class Stats:
    """Counters of one loader over all its iterations. Seconds are summed over threads."""

    samples: int = 0
    """samples yielded"""
    batches: int = 0
    shards: int = 0
    """shards read"""
    bytes_read: int = 0
    """the file sizes of those shards, in bytes"""
    images: int = 0
    """images decoded"""
    stretched: int = 0
    """images whose shape has changed, which only `crop="none"` does"""
    read_seconds: float = 0.0
    decode_seconds: float = 0.0
    wait_seconds: float = 0.0
    """seconds that the consumer waited for a batch"""
    busy_seconds: float = 0.0
    """seconds that the consumer spent between batches"""
    queue_depth: int = 0
    """batches that were ready or in progress when the last one was requested"""
    bytes_peak: int = 0
    """the most bytes held at once"""
    bad: Counter[tuple[str, str]] = field(default_factory=Counter)
    """bad samples by (file, reason)"""
    bad_samples: list[BadSample] = field(default_factory=list)
    """the first 100 of them"""
    started: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def add(self, **counts: float) -> None:
        """Add to the counters of these names."""
        with self._lock:
            for name, count in counts.items():
                setattr(self, name, getattr(self, name) + count)

    def add_bad(self, sample: BadSample) -> None:
        """Count a bad sample."""
        with self._lock:
            self.bad[sample.path, sample.reason] += 1
            if len(self.bad_samples) < KEPT_EXAMPLES:
                self.bad_samples.append(sample)

    def bottleneck(self) -> str:
        """What limits the speed: `trainer` (the consumer), `reading` or `decoding`."""
        if self.wait_seconds <= 0.05 * (self.wait_seconds + self.busy_seconds):
            return "trainer"
        return "reading" if self.read_seconds > self.decode_seconds else "decoding"

    def as_dict(self) -> dict[str, float]:
        """The counters by name, with `bad_count` and `samples_per_second`, for a log or TensorBoard."""
        numbers = {one.name: getattr(self, one.name) for one in fields(self)}
        numbers = {name: number for name, number in numbers.items() if isinstance(number, (int, float))}
        del numbers["started"]
        numbers["bad_count"] = sum(self.bad.values())
        numbers["samples_per_second"] = self.samples / max(1e-9, self.wait_seconds + self.busy_seconds)
        return numbers

    def write(self, writer: Any, step: int, prefix: str = "loader") -> None:
        """Add every number to TensorBoard: `writer` is a torch.utils.tensorboard.SummaryWriter or has its methods."""
        for name, number in self.as_dict().items():
            writer.add_scalar(f"{prefix}/{name}", number, step)

    def __str__(self) -> str:
        numbers = self.as_dict()
        return (
            f"{self.samples:,} samples  {numbers['samples_per_second']:,.0f}/s  waited {self.wait_seconds:.1f} s  "
            f"queue {self.queue_depth}  decode {self.decode_seconds:.1f} s  read {self.read_seconds:.1f} s "
            f"({self.bytes_read / 1e6:,.0f} MB)  peak {self.bytes_peak / 1e6:,.0f} MB  bad {numbers['bad_count']}  "
            f"bottleneck: {self.bottleneck()}"
        )
