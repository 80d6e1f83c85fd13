"""Dataset builds compared with other ways to write the same rows, from the same input, in one run.

    python -m benchmarks.build compare [--gigabytes 1] [--kilobytes 50] [--ways copy,build,…] [--rounds 3]
                                       [--mds-python PYTHON]
    python -m benchmarks.build growth [--sizes 1,2,4,8] [--kilobytes 50]
    python -m benchmarks.build rows [--rows 10000000]
    python -m benchmarks.build stages [--gigabytes 1]

`compare`: images × 6 captions × 2 conditions. Each way warms up twice on a small input and then runs once per round on
the real one. A round runs every way, one after the other, and the table has medians over the rounds. Starting a JVM is
not counted. `copy` is the floor: Spark reads, shuffles and writes whole images and explodes nothing. `mds` is MosaicML
Streaming's `dataframe_to_mds` of the exploded rows. It installs a torch of its own, so it runs in the environment of
--mds-python, with a JVM of its own, whose start is not counted either.
`growth`: seconds and peak memory of driver, JVM and Python workers over input sizes, each in a process of its own, and
the slope. `rows`: very many captions of tiny images. `stages`: where the build's time goes, from Spark's event log.
--quick runs any of them on a hundredth of its input, to check that it works.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pyspark.sql import DataFrame, SparkSession
from rich.box import MARKDOWN
from rich.console import Console
from rich.table import Table

from benchmarks.build_source import SHARD_BYTES, Shape, make_source, query
from benchmarks.memory import Peaks
from headrace.dataset.build import build
from headrace.dataset.session import spark_session
from headrace.recipe.dataset import Dataset

WARM_UP_IMAGES = 200
WARM_UPS = 2
SESSION = {"spark.master": "local[2]", "spark.driver.memory": "4g"}

Way = Callable[[SparkSession, Path, Path, Shape], None]


def by_build(spark: SparkSession, source: Path, output: Path, shape: Shape) -> None:
    """headrace build: handles, one shuffle, the Arrow write stage, a Delta commit."""
    recipe = {
        "source": {"path": str(source)},
        "query": query(shape),
        "shuffle": {"key": "id"},
        "shards": {"target_bytes": SHARD_BYTES},
        "output": {"path": str(output)},
    }
    build(spark, Dataset.model_validate(recipe))


def by_copy(spark: SparkSession, source: Path, output: Path, shape: Shape) -> None:
    """Spark: shuffle and write whole images, explode nothing."""
    frame = spark.read.parquet(str(source))
    frame.repartition(_partitions(source), "id").write.option("compression", "none").parquet(str(output))


def by_explode(spark: SparkSession, source: Path, output: Path, shape: Shape) -> None:
    """Spark: explode, shuffle by key, write with the default settings."""
    exploded(spark, source, shape).write.parquet(str(output))


def by_explode_dictionary(spark: SparkSession, source: Path, output: Path, shape: Shape) -> None:
    """Spark: explode, shuffle by key, write with dictionary pages as large as a shard."""
    writer = exploded(spark, source, shape).write.option("compression", "none")
    writer.option("parquet.dictionary.page.size", str(2 * SHARD_BYTES)).option(
        "parquet.block.size", str(16 * SHARD_BYTES)
    ).option("parquet.page.row.count.limit", "100000").parquet(str(output))


def by_mds(spark: SparkSession, source: Path, output: Path, shape: Shape) -> None:
    """MosaicML Streaming: write the exploded rows as MDS shards with its own converter, which defaults to Zstandard."""
    from streaming.base.converters import dataframe_to_mds

    names = ["id", "image", "caption", *(["kind", "condition"] if shape.conditions else [])]
    columns = {name: "bytes" if name in {"image", "condition"} else "str" for name in names}
    settings = {"out": str(output), "columns": columns, "keep_local": True}
    dataframe_to_mds(exploded(spark, source, shape), True, settings)


def exploded(spark: SparkSession, source: Path, shape: Shape) -> DataFrame:
    """The rows of the query, after whole images have been shuffled by key."""
    spark.read.parquet(str(source)).repartition(_partitions(source), "id").createOrReplaceTempView("source")
    return spark.sql(query(shape))


def by_polars(spark: SparkSession, source: Path, output: Path, shape: Shape) -> None:
    """Polars: explode in the streaming engine, without a shuffle, with the default writer."""
    import polars as pl

    columns = ["id", "image", "captions", *["conditions"] * bool(shape.conditions)]
    frame = pl.scan_parquet(str(source / "*.parquet")).select(columns).explode("captions")
    if shape.conditions:
        frame = frame.explode("conditions").unnest("conditions", separator=".")
    output.mkdir()
    frame.sink_parquet(str(output / "part.parquet"))


def by_duckdb(spark: SparkSession, source: Path, output: Path, shape: Shape) -> None:
    """DuckDB: unnest, without a shuffle, with the default writer."""
    import duckdb

    output.mkdir()
    conditions = ", unnest(conditions) AS condition" if shape.conditions else ""
    rows = duckdb.read_parquet(str(source / "*.parquet"))
    captions = rows.project(f"id, image, unnest(captions) AS caption{', conditions' if conditions else ''}")
    captions.project(f"id, image, caption{conditions}").write_parquet(str(output / "part.parquet"))


WAYS: dict[str, Way] = {
    "copy": by_copy,
    "build": by_build,
    "explode": by_explode,
    "explode-dictionary": by_explode_dictionary,
    "mds": by_mds,
    "polars": by_polars,
    "duckdb": by_duckdb,
}


def _partitions(source: Path) -> int:
    return max(2, sum(path.stat().st_size for path in source.glob("*.parquet")) // SHARD_BYTES)


def _stored(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if {".parquet", ".mds"} & set(path.suffixes))


def timed(
    name: str, root: Path, shape: Shape, session: dict[str, str] | None = None, warm_ups: int = WARM_UPS
) -> dict[str, Any]:
    """Run one way in this process: seconds, bytes stored, and peak memory by kind of process."""
    spark = spark_session("benchmark", {**SESSION, **(session or {})})
    output = root / f"output-{name}"
    for _ in range(warm_ups):
        WAYS[name](spark, root / "small", output, shape)
        shutil.rmtree(output)
    with Peaks() as peaks:
        begun, started = time.time(), time.perf_counter()
        WAYS[name](spark, root / "source", output, shape)
        seconds = time.perf_counter() - started
    stored = _stored(output)
    shutil.rmtree(output)
    return {"begun": begun, "seconds": seconds, "stored": stored, **peaks.megabytes}


def apart(python: str, name: str, root: Path, shape: Shape) -> dict[str, Any]:
    """Run `timed` in a process of its own, with the interpreter `python`."""
    command = [python, "-m", "benchmarks.build", "one", "--ways", name, "--folder", str(root), *shape.arguments()]
    done = subprocess.run(command, capture_output=True, text=True, env=_environment(python))
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _environment(python: str) -> dict[str, str]:
    import os

    return {**os.environ, "PYSPARK_PYTHON": python, "PYSPARK_DRIVER_PYTHON": python}


def compare(settings: argparse.Namespace, root: Path) -> Table:
    """One row for each way: medians over the rounds. Each round runs every way, one after the other."""
    shape = Shape(settings.kilobytes, settings.captions, settings.conditions)
    unique = _sources(root, shape, settings.gigabytes * 1e9)
    table = Table(*("way", "seconds", "× copy", "MB stored", "stored / unique", "peak MB: driver", "JVM", "workers"))
    table.title = (
        f"{unique / 1e6:,.0f} MB of unique bytes, images of {settings.kilobytes} kB, rounds: {settings.rounds}"
    )
    names = [name for name in settings.ways.split(",") if name != "mds" or settings.mds_python is not None]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(settings.rounds):
        for name in names:
            one = (
                apart(settings.mds_python, name, root, shape)
                if name == "mds"
                else timed(name, root, shape, warm_ups=0 if found[name] else WARM_UPS)
            )
            found[name].append(one)
    for name, rounds in found.items():
        seconds, floors = ([one["seconds"] for one in some] for some in (rounds, found.get("copy", rounds)))
        ratio = statistics.median(one / floor for one, floor in zip(seconds, floors, strict=True))
        cells = [name, f"{statistics.median(seconds):.1f}", f"{ratio:.2f}" if "copy" in found else "–"]
        cells += [f"{rounds[0]['stored'] / 1e6:,.0f}", f"{rounds[0]['stored'] / unique:.3f}"]
        cells += [f"{max(one[kind] for one in rounds):,.0f}" for kind in ("driver", "jvm", "workers")]
        table.add_row(*cells)
    if "mds" in settings.ways and settings.mds_python is None:
        table.add_row("mds", "left out: no --mds-python")
    return table


def growth(settings: argparse.Namespace, root: Path) -> Table:
    """One row for each size, and how far its time is from the line fitted through all sizes."""
    shape = Shape(settings.kilobytes, settings.captions, settings.conditions)
    table = Table(*("GB", "seconds", "off the line", "stored / unique", "peak MB: driver", "JVM", "workers"))
    found, sizes = [], []
    for size in settings.sizes.split(","):
        scale = 100 if settings.quick else 1
        unique = _sources(root, shape, float(size) * 1e9 / scale)
        sizes.append(unique / 1e9)
        found.append({**apart(sys.executable, "build", root, shape), "unique": unique})
        shutil.rmtree(root / "source")
    seconds = np.array([one["seconds"] for one in found])
    slope, start = np.polyfit(sizes, seconds, 1) if len(sizes) > 1 else (seconds[0] / sizes[0], 0.0)
    table.title = f"seconds = {start:.1f} + {slope:.2f} × GB"
    for size, one, line in zip(sizes, found, start + slope * np.array(sizes), strict=True):
        cells = [f"{size:.2f}", f"{one['seconds']:.1f}", f"{one['seconds'] / line - 1:+.1%}"]
        cells += [
            f"{one['stored'] / one['unique']:.3f}",
            *(f"{one[kind]:,.0f}" for kind in ("driver", "jvm", "workers")),
        ]
        table.add_row(*cells)
    return table


def rows(settings: argparse.Namespace, root: Path) -> Table:
    """Very many captions of tiny images, ten for each image: copy, build and Spark's default explode."""
    captions = 10
    count = settings.rows // (100 if settings.quick else 1) // captions
    shape = Shape(0.2, captions, 0)
    _sources(root, shape, count * 200)
    table = Table(*("way", "seconds", "rows a second", "MB stored", "peak MB: driver", "JVM", "workers"))
    table.title = f"{count * captions:,} rows of {count:,} images of 0.2 kB"
    for name in ("copy", "build", "explode"):
        found = timed(name, root, shape)
        cells = [name, f"{found['seconds']:.1f}", f"{count * captions / found['seconds']:,.0f}"]
        cells += [f"{found['stored'] / 1e6:,.0f}", *(f"{found[kind]:,.0f}" for kind in ("driver", "jvm", "workers"))]
        table.add_row(*cells)
    return table


def stages(settings: argparse.Namespace, root: Path) -> Table:
    """Each Spark stage of copy and build, with the time and shuffled bytes of its tasks."""
    shape = Shape(settings.kilobytes, settings.captions, settings.conditions)
    _sources(root, shape, settings.gigabytes * 1e9)
    log = root / "events"
    log.mkdir()
    conf = {"spark.eventLog.enabled": "true", "spark.eventLog.dir": str(log), "spark.eventLog.compress": "false"}
    conf["spark.eventLog.rolling.enabled"] = "false"
    table = Table(*("way", "stage", "tasks", "seconds", "task seconds", "CPU seconds of the JVM", "MB shuffled"))
    spans = {}
    for name in ("copy", "build"):
        found = timed(name, root, shape, conf)
        spans[name] = (found["begun"] * 1000, (found["begun"] + found["seconds"]) * 1000)
    SparkSession.builder.getOrCreate().stop()
    tasks: dict[int, list[dict[str, Any]]] = {}
    for path in log.iterdir():
        for line in path.read_text().splitlines():
            event = json.loads(line)
            if event["Event"] == "SparkListenerTaskEnd" and "Task Metrics" in event:
                tasks.setdefault(event["Stage ID"], []).append(event)
    for name, (start, end) in spans.items():
        for stage, events in sorted(tasks.items()):
            launched = [event["Task Info"]["Launch Time"] for event in events]
            finished = [event["Task Info"]["Finish Time"] for event in events]
            if start <= min(launched) and max(finished) <= end:
                metrics = [event["Task Metrics"] for event in events]
                table.add_row(
                    name,
                    str(stage),
                    str(len(events)),
                    f"{(max(finished) - min(launched)) / 1000:.2f}",
                    f"{sum(m['Executor Run Time'] for m in metrics) / 1000:.2f}",
                    f"{sum(m['Executor CPU Time'] for m in metrics) / 1e9:.2f}",
                    f"{sum(m['Shuffle Write Metrics']['Shuffle Bytes Written'] for m in metrics) / 1e6:,.0f}",
                )
    return table


def _sources(root: Path, shape: Shape, size: float) -> int:
    """Write the small and the real source, of about `size` unique bytes; returns the exact number."""
    if not (root / "small").exists():
        make_source(root / "small", WARM_UP_IMAGES, shape)
    return make_source(root / "source", max(WARM_UP_IMAGES, round(size / shape.unique_bytes)), shape)


def main() -> None:
    """Print the table of the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["compare", "growth", "rows", "stages", "one"])
    parser.add_argument("--gigabytes", type=float, default=1.0, help="unique bytes of images and conditions")
    parser.add_argument("--kilobytes", type=float, default=50, help="size of an image")
    parser.add_argument("--captions", type=int, default=6)
    parser.add_argument("--conditions", type=int, default=2, help="conditions per image, each 1/16 of its size")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--rounds", type=int, default=3, help="how often `compare` runs each way")
    parser.add_argument("--sizes", default="1,2,4,8", help="gigabytes of `growth`")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--mds-python", help="an interpreter that has mosaicml-streaming and pyspark")
    parser.add_argument("--folder", help="where to write; a temporary folder if left out")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the input")
    settings = parser.parse_args()
    if settings.command == "one":
        shape = Shape(settings.kilobytes, settings.captions, settings.conditions)
        print(json.dumps(timed(settings.ways, Path(settings.folder), shape)))
        return
    settings.gigabytes /= 100 if settings.quick else 1
    commands = {"compare": compare, "growth": growth, "rows": rows, "stages": stages}
    with tempfile.TemporaryDirectory(dir=settings.folder) as root:
        table = commands[settings.command](settings, Path(root))
    table.box = MARKDOWN
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
