"""The loader against its peers: `python benchmarks/loader.py [--pairs 20000] [--raw 200000] [--repeats 3]`.

Two jobs, warm page cache, local disk: `coded`, pairs of a JPEG 256² and a PNG edge map with a caption, batch 64,
shuffled, to uint8 tensors N×C×H×W; `raw`, 32×32×3 bytes with caption and label, batch 256. Every side decodes with the
same functions (simplejpeg, OpenCV). Each measurement is a process of its own, sides are interleaved, and the median
of the repeats is printed: samples a second, seconds to the first batch, CPU time a sample over all threads and
processes (which a busy machine disturbs less), and memory (PSS) at the end. A peer that is
not installed is left out and named. `limit` is decoding alone, from bytes in memory to batches, and for raw the
gathering of shuffled row groups.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import Schema
from deltalake.transaction import AddAction, create_table_with_add_actions

sys.path.insert(0, str(Path(__file__).parent))

BATCH = {"coded": 64, "raw": 256}
ROWS_OF_SHARD = {"coded": 250, "raw": 2500}
HALF, SIX = "headrace half size", "headrace 6 captions"


def coded_shard(start: int, rows: int) -> pa.Table:
    """`rows` pairs of about 24 kB and 2 kB: smoothed noise, and edges of it."""
    images, edges = [], []
    for number in range(start, start + rows):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        pixels = cv2.resize(noise, (256, 256), interpolation=cv2.INTER_CUBIC)
        images.append(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes())
        outline = cv2.Canny(cv2.GaussianBlur(pixels, (0, 0), 6), 40, 80)
        edges.append(cv2.imencode(".png", outline)[1].tobytes())
    numbers = np.arange(start, start + rows)
    captions = [f"a picture with the number {number}" for number in numbers]
    return pa.table({"sample_id": numbers, "caption": captions, "image": images, "condition": edges})


def raw_shard(start: int, rows: int) -> pa.Table:
    """`rows` samples of 3,072 bytes, a label and a caption."""
    pixels = np.random.default_rng(start).integers(0, 256, (rows, 3072), np.uint8)
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(3072), rows, [None, pa.py_buffer(pixels.tobytes())])
    captions = [f"a picture with the number {number}" for number in range(start, start + rows)]
    return pa.table({"pixels": column, "label": np.arange(start, start + rows) % 10, "caption": captions})


def write_table(folder: Path, shards: Iterator[pa.Table], dictionary: list[str]) -> None:
    """A Delta table of one file a shard."""
    folder.mkdir(parents=True)
    actions = []
    schema = None
    for number, shard in enumerate(shards):
        name = f"shard-{number:05d}.parquet"
        pq.write_table(
            shard, folder / name, use_dictionary=dictionary, dictionary_pagesize_limit=1 << 30, compression="none"
        )
        size = (folder / name).stat().st_size
        stats = json.dumps({"numRecords": len(shard)})
        actions.append(AddAction(name, size, {}, 0, True, stats))
        schema = shard.schema
    assert schema is not None
    create_table_with_add_actions(
        table_uri=str(folder), schema=Schema.from_arrow(schema), add_actions=actions, mode="error", partition_by=[]
    )


def six_captions(table: pa.Table) -> pa.Table:
    """The shard with six captions for each image, stored once."""
    rows = pa.array(np.repeat(np.arange(len(table)), 6), pa.int32())
    columns = {name: table.column(name).combine_chunks().take(rows) for name in ("sample_id", "caption")}
    for name in ("image", "condition"):
        columns[name] = pa.DictionaryArray.from_arrays(rows, table.column(name).combine_chunks())
    return pa.table(columns).cast(pa.schema([(name, table.schema.field(name).type) for name in columns]))


def write_data(folder: Path, pairs: int, raw: int) -> None:
    """Every table that headrace reads; the peers' formats are made of these."""
    counts = {"coded": pairs, "raw": raw}
    make = {"coded": coded_shard, "raw": raw_shard}
    for kind, total in counts.items():
        rows = ROWS_OF_SHARD[kind]
        starts = range(0, total, rows)
        write_table(folder / kind, (make[kind](start, min(rows, total - start)) for start in starts), [])
    few = (coded_shard(start, 250) for start in range(0, max(250, pairs // 6), 250))
    write_table(folder / "six", map(six_captions, few), ["image", "condition"])


def headrace(folder: Path, kind: str, threads: int, **settings: object) -> Iterator[object]:
    """One epoch by ShardLoader."""
    from pipelines.loading import ShardLoader

    return iter(ShardLoader(folder, batch_size=BATCH[kind], threads=threads, **settings))


def side(name: str, folder: Path, kind: str, workers: int) -> Iterator[object]:
    """Batches of one epoch by the side of that name."""
    if name == "headrace":
        return headrace(folder / kind, kind, workers)
    if name == HALF:
        return headrace(folder / kind, kind, workers, size=128)
    if name == SIX:
        return headrace(folder / "six", kind, workers)
    peers = importlib.import_module("loader_peers")
    return peers.PEERS[name](folder, kind, workers, BATCH[kind])


def measure(name: str, folder: Path, kind: str, workers: int) -> dict[str, float]:
    """One epoch in this process: samples a second after the first batch, seconds to it, PSS of all processes."""
    total = sum(pq.read_metadata(path).num_rows for path in sorted((folder / kind).glob("*.parquet")))
    if name == SIX:
        total = sum(pq.read_metadata(path).num_rows for path in sorted((folder / "six").glob("*.parquet")))
    importlib.import_module("pipelines.loading" if name.startswith("headrace") else "loader_peers")
    start = time.perf_counter()
    batches = iter(side(name, folder, kind, workers))
    next(batches)
    first, used = time.perf_counter(), cpu_seconds()
    count = sum(1 for _ in batches)
    del batches
    end, used = time.perf_counter(), cpu_seconds() - used
    seen = min(total, (count + 1) * BATCH[kind])
    rest = seen - BATCH[kind]
    return {"rate": rest / (end - first), "first": first - start, "cpu": used / rest * 1e6, "pss": pss()}


def cpu_seconds() -> float:
    """CPU time of this process and of its children that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def pss() -> float:
    """Proportional set size of this process, MB."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1000
    return float("nan")


def run(name: str, folder: Path, kind: str, workers: int) -> dict[str, float] | str:
    """`measure` in a process of its own; what went wrong as one line."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", name, kind, str(workers), "--folder", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    if done.returncode or not lines:
        return lines[-1] if lines else f"exit status {done.returncode}"
    return json.loads(lines[-1])


def prepare(folder: Path, kind: str, name: str, missing: dict[tuple[str, str], str]) -> None:
    """Write a peer's format; what goes wrong is kept as the reason why the peer is not measured."""
    peers = importlib.import_module("loader_peers")
    if name not in peers.FORMATS:
        return
    try:
        peers.prepared(folder, kind, peers.FORMATS[name])
    except subprocess.CalledProcessError as error:
        missing[kind, name] = error.stderr.strip().splitlines()[-1]


def table(folder: Path, kinds: list[str], repeats: int, workers: list[int], chosen: list[str]) -> None:
    """Measure and print."""
    results: dict[tuple[str, str, int], list[dict[str, float]]] = {}
    missing: dict[tuple[str, str], str] = {}
    for kind in kinds:
        for name in chosen:
            prepare(folder, kind, name, missing)
    sides = [(kind, name, count) for kind in kinds for name in chosen for count in workers]
    sides = [one for one in sides if one[0] == "coded" or one[1] not in (HALF, SIX)]
    for _ in range(repeats):
        for kind, name, count in sides:
            if (kind, name) in missing:
                continue
            found = run(name, folder, kind, count)
            if isinstance(found, str):
                missing[kind, name] = found
                continue
            results.setdefault((kind, name, count), []).append(found)
            print(f"{kind} {name} {count}: {found['rate']:,.0f}/s", file=sys.stderr, flush=True)
    print("| job | side | workers or threads | samples/s | first batch, s | CPU µs/sample | PSS, MB |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for (kind, name, count), runs in results.items():
        rate, first, cpu, memory = (statistics.median(one[key] for one in runs) for key in runs[0])
        print(f"| {kind} | {name} | {count} | {rate:,.0f} | {first:.2f} | {cpu:,.1f} | {memory:,.0f} |")
    for (kind, name), reason in missing.items():
        print(f"not measured: {name} ({kind}): {reason}")


def main() -> None:
    """Parse arguments, make data if need be, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--raw", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", default=["coded", "raw"], choices=["coded", "raw"])
    parser.add_argument("--sides", nargs="+", help="which sides; all if left out")
    parser.add_argument("--folder", type=Path, help="where the data is kept; a temporary folder if left out")
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "KIND", "WORKERS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, kind, workers = arguments.one
        print(json.dumps(measure(name, arguments.folder, kind, int(workers))))
        return
    peers: dict[str, Callable[..., object]] = importlib.import_module("loader_peers").PEERS
    chosen = arguments.sides or ["headrace", HALF, SIX, *peers]
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="headrace-loader-"))
    try:
        if not (folder / "six").exists():
            write_data(folder, arguments.pairs, arguments.raw)
        table(folder, arguments.kinds, arguments.repeats, arguments.workers, chosen)
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
