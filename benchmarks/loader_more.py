"""What else the loader benchmark measures: planning, memory over epochs, scaling, and shuffle quality."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

PLAN = """
import json, sys, time
import headrace.loading.table.deltalog
from headrace.loading import ShardLoader
from headrace.loading.order.order import Order

def status(name):
    return next(int(line.split()[1]) / 1000 for line in open("/proc/self/status") if line.startswith(name))

before = status("VmRSS")
start = time.perf_counter()
loader = ShardLoader(sys.argv[1], batch_size=64)
planned = time.perf_counter()
middle = loader.epoch_samples // 2
order = Order(loader._counts, seed=0, lanes=loader.lanes, window=1, shuffle=True)
order.window_at(middle)
sought = time.perf_counter()
loader.load_state_dict({**loader.state_dict(), "position": middle})
print(json.dumps({"samples": loader.epoch_samples, "plan": planned - start, "seek": sought - planned,
                  "peak": status("VmHWM") - before, "digest": time.perf_counter() - sought}))
"""


def plans(folder: Path, shards: int, repeats: int) -> None:
    """Time and memory of planning a synthetic log and of seeking to its middle, each run in a process of its own."""
    from loader_data import write_log

    path = folder / f"log-{shards}"
    if not path.exists():
        write_log(path, shards, 1000)
    runs = []
    for _ in range(repeats):
        done = subprocess.run([sys.executable, "-c", PLAN, str(path)], capture_output=True, text=True, check=True)
        runs.append(json.loads(done.stdout))
    median = {key: float(np.median([run[key] for run in runs])) for key in runs[0]}
    print("| shards | samples | plan, s | memory above the imports, MB | seek to the middle, s |")
    print("| --- | --- | --- | --- | --- |")
    samples, plan, peak, seek = (median[key] for key in ("samples", "plan", "peak", "seek"))
    print(f"| {shards:,} | {samples:,.0f} | {plan:.2f} | {peak:.0f} | {seek:.3f} |")


def memory_over_epochs(folder: Path, kind: str, epochs: int) -> None:
    """Print the memory after each of many epochs of one loader."""
    from loader_measure import BATCH, memory

    from headrace.loading import ShardLoader

    loader = ShardLoader(folder / kind, batch_size=BATCH[kind], threads=2)
    sizes = []
    for _ in range(epochs):
        for _batch in loader:
            pass
        sizes.append(memory()[0])
    shown = ", ".join(f"{size:.0f}" for size in sizes)
    print(f"{kind}: PSS after each of {epochs} epochs, MB: {shown}")


def shuffle_quality() -> None:
    """Print how far shuffled orders are from a random permutation, in the worst case: a sorted table."""
    print("| shards × samples | lanes | window | correlation of neighbours | median distance of an image's captions |")
    print("| --- | --- | --- | --- | --- |")
    for shards, rows in ((80, 250), (400, 500)):
        total = shards * rows
        random = np.random.default_rng(0).permutation(total)
        print(f"| {shards} × {rows} | a random permutation | | {neighbours(random):+.4f} | {spread(random):,.0f} |")
        for lanes, window in ((8, 1), (64, 1), (64, 4)):
            order = one_epoch(np.full(shards, rows), min(lanes, shards), window)
            print(f"| {shards} × {rows} | {lanes} | {window} | {neighbours(order):+.4f} | {spread(order):,.0f} |")


def one_epoch(counts: np.ndarray, lanes: int, window: int) -> np.ndarray:
    """The samples of one epoch in the loader's order, numbered by their position in the table."""
    from headrace.loading.order.order import Order, RankOrder, Window

    order = Order(counts, seed=1, lanes=lanes, window=window, shuffle=True)
    ranked = RankOrder(order, origin=0, rank=0, world_size=1)
    starts = np.cumsum(counts) - counts
    found = np.empty(order.epoch_samples, np.int64)
    windows: dict[int, Window] = {}
    for segment in ranked.segments(0, order.epoch_samples, windows):
        which, sample = segment.window.samples()
        shards = np.array([piece.shard for piece in segment.window.pieces])
        found[segment.dest] = starts[shards[which[segment.places]]] + sample[segment.places]
    return found


def neighbours(order: np.ndarray) -> float:
    """Correlation of the table positions of consecutive samples."""
    return float(np.corrcoef(order[:-1], order[1:])[0, 1])


def spread(order: np.ndarray) -> float:
    """Median distance in the order between samples that are neighbours in the table: captions of one image."""
    place = np.argsort(order)
    return float(np.median(np.abs(place[:-1] - place[1:])))


def scaling(folder: Path, kind: str, threads: list[int]) -> None:
    """Print samples a second of one loader over its number of threads."""
    from loader_measure import BATCH, rows_of

    from headrace.loading import ShardLoader

    total = rows_of(folder, kind)
    for count in threads:
        batches = iter(ShardLoader(folder / kind, batch_size=BATCH[kind], threads=count))
        next(batches)
        start = time.perf_counter()
        for _ in batches:
            pass
        print(f"{kind}, {count} threads: {total / (time.perf_counter() - start):,.0f} samples/s")
