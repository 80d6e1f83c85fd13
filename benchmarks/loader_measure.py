"""One measurement of the loader benchmark: an epoch of one side, in this process."""

from __future__ import annotations

import importlib
import resource
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BATCH = {"coded": 64, "half": 64, "six": 64, "raw": 256}
DATA = {"coded": "coded", "half": "coded", "six": "six", "raw": "raw"}
SIZE = {"half": 128}
MEMORY_AT = (0.25, 0.5, 0.75)
"""shares of the measured time after which memory is read"""


def rows_of(folder: Path, kind: str) -> int:
    """Samples of a job."""
    return sum(pq.read_metadata(path).num_rows for path in (folder / DATA[kind]).glob("*.parquet"))


def batches_of(name: str, folder: Path, kind: str, workers: int) -> Iterator[object]:
    """Batches of one epoch, from the side `name`."""
    if name == "headrace":
        from headrace.loading import ShardLoader

        size = SIZE.get(kind)
        return iter(ShardLoader(folder / DATA[kind], batch_size=BATCH[kind], threads=max(1, workers), size=size))
    peers = importlib.import_module("loader_peers")
    peers.SIZE = SIZE.get(kind)
    return peers.PEERS[name](folder, DATA[kind], workers, BATCH[kind])


def measure(name: str, folder: Path, kind: str, workers: int, seconds: float) -> dict[str, float]:
    """Measure one epoch, or as much of it as `seconds` allow, after the first batch.

    Returns `rate` (samples a second), `first` (seconds to the first batch), `cpu` (CPU µs a sample over all threads and
    processes), `pss` (the largest proportional set size of all processes together, MB) and `own` (`pss` without pages
    of files).
    """
    total, batch = rows_of(folder, kind), BATCH[kind]
    importlib.import_module("headrace.loading" if name == "headrace" else "loader_peers")
    pa.array([0])  # makes pyarrow import pandas, if installed: it costs any process 0.3 s once
    start = time.perf_counter()
    batches = iter(batches_of(name, folder, kind, workers))
    next(batches)
    first, used = time.perf_counter(), cpu_seconds()
    count, paused, largest, due = 0, 0.0, (0.0, 0.0), [seconds * part for part in MEMORY_AT]
    for _ in batches:
        count += 1
        elapsed = time.perf_counter() - first - paused
        if (due and elapsed >= due[0]) or count == total // batch // 2:
            before = time.perf_counter()
            due = due[1:]
            largest = max(largest, memory())
            paused += time.perf_counter() - before
        if elapsed >= seconds:
            break
    end = time.perf_counter()
    del batches
    rest = min(total - batch, count * batch)
    cpu = cpu_seconds() - used
    return {
        "rate": rest / (end - first - paused),
        "first": first - start,
        "cpu": cpu / rest * 1e6,
        "pss": largest[0],
        "own": largest[1],
    }


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def memory() -> tuple[float, float]:
    """Proportional set size of this process and its descendants, MB: in total, and without pages of files."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
    family = {int(Path("/proc/self").resolve().name)}
    while more := {process for process, parent in parents.items() if parent in family} - family:
        family |= more
    total = own = 0
    for process in family:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        sizes = {line.split(":")[0]: int(line.split()[1]) for line in lines[1:]}
        total += sizes["Pss"]
        own += sizes["Pss"] - sizes["Pss_File"]
    return total / 1000, own / 1000
