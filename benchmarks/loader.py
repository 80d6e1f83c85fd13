"""The loader against its peers: `python benchmarks/loader.py`. You can run it in parts.

All jobs read from a local disk with a warm page cache. `coded`: 20,000 pairs of a JPEG of 256² and a PNG edge map, with
a caption, batch 64, shuffled, to uint8 tensors N×C×H×W. `half`: the same at half the size. `six`: six captions for each
image, which is stored once. `raw`: 200,000 × 32×32×3 bytes with caption and label, batch 256.

Every side decodes with the same functions (simplejpeg, OpenCV). Each measurement runs in a process of its own, and
sides are interleaved. The table has medians of the repeats: samples a second, seconds to the first batch, CPU time a
sample over all threads and processes (which a busy machine disturbs less), and the largest memory (PSS of all
processes; `own` excludes pages of files, which the system reclaims when it needs them). `limit` is decoding alone, from
bytes in memory to batches; for `raw` it is gathering shuffled row groups.

Measurements are stored in FOLDER/results.jsonl, so you can run the whole in parts of a few minutes each:

    python benchmarks/loader.py --folder F --prepare
    python benchmarks/loader.py --folder F --kinds coded --workers 2      # and so on
    python benchmarks/loader.py --folder F --more                         # plans, memory over epochs, shuffle quality
    python benchmarks/loader.py --folder F --table

Peers that need another torch or pyarrow run in environments of their own: `--python PATH` sets the interpreter of all
peers, `--python Petastorm=PATH` that of one. A peer that is not installed is named and left out.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from loader_measure import DATA, measure

KINDS = list(DATA)
OURS = ("headrace", "limit")
Key = tuple[str, str, int]


class Bench:
    """Where the data and results are, and which interpreter runs which side."""

    def __init__(self, folder: Path, pythons: list[str], seconds: float) -> None:
        self.folder, self.seconds = folder, seconds
        named = [one.rpartition("=") for one in pythons]
        self.pythons = {name: path for name, _, path in named}
        self.results = folder / "results.jsonl"

    def python(self, name: str) -> str:
        """The interpreter that runs the side `name`."""
        other = self.pythons.get(name, self.pythons.get("", sys.executable))
        return sys.executable if name in OURS else other

    def run(self, key: Key) -> dict[str, float] | str:
        """Run `measure` in a process of its own. Returns its figures, or the error as one line."""
        kind, name, workers = key
        command = [self.python(name), "-W", "ignore", __file__, "--one", name, kind, str(workers)]
        command += ["--folder", str(self.folder), "--seconds", str(self.seconds)]
        done = self._call(command)
        lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
        if done.returncode or not lines:
            return lines[-1] if lines else f"exit status {done.returncode}"
        return json.loads(lines[-1])

    def prepare(self, kind: str, name: str) -> str | None:
        """Write a job's data in a peer's format. Returns None, or the error as one line."""
        form = importlib.import_module("loader_peers").FORMATS.get(name)
        if form is None or (self.folder / f"{DATA[kind]}-{form}").exists():
            return None
        script = str(Path(__file__).with_name("loader_peers.py"))
        done = self._call([self.python(name), "-W", "ignore", script, str(self.folder), DATA[kind], form])
        return done.stderr.strip().splitlines()[-1] if done.returncode else None

    def _call(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})

    def keep(self, key: Key, found: dict[str, float] | str) -> None:
        """Add a result to the file."""
        with self.results.open("a") as file:
            print(json.dumps({"key": key, "found": found}), file=file)

    def kept(self) -> Iterator[tuple[Key, Any]]:
        """Every result so far."""
        for line in self.results.read_text().splitlines() if self.results.exists() else ():
            one = json.loads(line)
            yield tuple(one["key"]), one["found"]


def measure_all(bench: Bench, kinds: list[str], repeats: int, workers: list[int], chosen: list[str]) -> None:
    """Measure every side, one after the other, `repeats` times."""
    missing = {(kind, name): bench.prepare(kind, name) for kind in kinds for name in chosen}
    for key, reason in missing.items():
        if reason:
            bench.keep((*key, 0), reason)
    for _ in range(repeats):
        for key in [(kind, name, count) for kind in kinds for name in chosen for count in workers]:
            kind, name, count = key
            if missing[kind, name] or (kind == "six" and name == "limit") or (name == "headrace" and not count):
                continue
            found = bench.run(key)
            bench.keep(key, found)
            if isinstance(found, str):
                missing[kind, name] = found
                print(f"{kind} {name} {count}: {found}", file=sys.stderr, flush=True)
            else:
                print(f"{kind} {name} {count}: {found['rate']:,.0f}/s", file=sys.stderr, flush=True)


def table(bench: Bench) -> None:
    """Print medians of all results, and how headrace compares."""
    results: dict[Key, list[dict[str, float]]] = {}
    missing: dict[tuple[str, str], str] = {}
    for key, found in bench.kept():
        if isinstance(found, str):
            missing[key[:2]] = found
        else:
            results.setdefault(key, []).append(found)
    medians = {
        key: {one: statistics.median(run[one] for run in runs) for one in runs[0]} for key, runs in results.items()
    }
    print("| job | side | workers or threads | samples/s | first batch, s | CPU µs/sample | PSS, MB | own, MB |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for kind, name, count in sorted(medians, key=lambda key: (KINDS.index(key[0]), key[1] not in OURS, key[1], key[2])):
        one = medians[kind, name, count]
        print(
            f"| {kind} | {name} | {count} | {one['rate']:,.0f} | {one['first']:.2f} | {one['cpu']:,.1f} "
            f"| {one['pss']:,.0f} | {one['own']:,.0f} |"
        )
    for kind in KINDS:
        ratios(kind, {key: one for key, one in medians.items() if key[0] == kind})
    for (kind, name), reason in missing.items():
        print(f"not measured: {name} ({kind}): {reason}")


def ratios(kind: str, medians: dict[Key, dict[str, float]]) -> None:
    """Print one line: headrace against the limit and the best peer, each at its best setting."""
    best = {}
    for (_, name, count), one in medians.items():
        if name not in best or one["rate"] > best[name][1]["rate"]:
            best[name] = (count, one)
    peers = {name: found for name, found in best.items() if name not in OURS}
    if "headrace" not in best:
        return
    ours = best["headrace"][1]
    line = f"{kind}: headrace {ours['rate']:,.0f}/s"
    if "limit" in best:
        line += f", {ours['rate'] / best['limit'][1]['rate']:.2f} of the limit"
    if peers:
        name, (count, one) = max(peers.items(), key=lambda item: item[1][1]["rate"])
        line += f", {ours['rate'] / one['rate']:.2f} × the best peer ({name}, {count}: {one['rate']:,.0f}/s, "
        line += f"PSS {one['pss']:,.0f} MB against {ours['pss']:,.0f} MB)"
    print(line)


def main() -> None:
    """Parse the arguments, write the data if needed, measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20_000)
    parser.add_argument("--raw", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--sides", nargs="+", help="which sides (default: all)")
    parser.add_argument("--folder", type=Path, help="the folder of data and results (default: a temporary one)")
    parser.add_argument("--python", action="append", default=[], help="interpreter of peers: PATH, or NAME=PATH")
    parser.add_argument("--seconds", type=float, default=8.0, help="longest time of a measurement")
    parser.add_argument("--quick", action="store_true", help="small data, one repeat: check that everything works")
    parser.add_argument("--prepare", action="store_true", help="write all data in all formats, then stop")
    parser.add_argument("--more", action="store_true", help="plans, memory over 20 epochs, scaling, shuffle quality")
    parser.add_argument("--table", action="store_true", help="print the measurements so far")
    parser.add_argument("--one", nargs=3, metavar=("SIDE", "KIND", "WORKERS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        name, kind, workers = arguments.one
        print(json.dumps(measure(name, arguments.folder, kind, int(workers), arguments.seconds)))
        return
    if arguments.quick:
        arguments.pairs, arguments.raw, arguments.repeats, arguments.workers = 1500, 20_000, 1, [2]
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="headrace-loader-"))
    try:
        begin(arguments, Bench(folder, arguments.python, arguments.seconds))
    finally:
        if arguments.folder is None:
            shutil.rmtree(folder)


def begin(arguments: argparse.Namespace, bench: Bench) -> None:
    """Do what the arguments ask for."""
    from loader_data import write_data

    chosen = arguments.sides or ["headrace", *importlib.import_module("loader_peers").PEERS]
    write_data(bench.folder, arguments.pairs, arguments.raw)
    if arguments.prepare:
        for kind in arguments.kinds:
            for name in chosen:
                if reason := bench.prepare(kind, name):
                    print(f"{kind} {name}: {reason}")
        return
    if not arguments.table and not arguments.more:
        measure_all(bench, arguments.kinds, arguments.repeats, arguments.workers, chosen)
    if not arguments.more:
        table(bench)
    if arguments.more or arguments.quick:
        import loader_more

        loader_more.plans(bench.folder, 20_000 if arguments.quick else 1_000_000, arguments.repeats)
        for kind in ("raw", "coded"):
            loader_more.scaling(bench.folder, kind, [1, 2])
            loader_more.memory_over_epochs(bench.folder, kind, 3 if arguments.quick else 20)
        loader_more.shuffle_quality()


if __name__ == "__main__":
    main()
