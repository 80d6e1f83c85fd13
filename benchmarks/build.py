"""Dataset builds against other ways to write the same rows, on the same input, in one run.

    python -m benchmarks.build [--images 20000] [--kilobytes 50] [--captions 6] [--conditions 0] [--ways build,copy,…]

Each way gets a short warm-up on a small input first; the start of the JVM is not counted. `copy` is the floor: Spark
reads, shuffles and writes whole images with nothing exploded.
"""

import argparse
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from pipelines.dataset.build import build
from pipelines.dataset.check import PNG
from pipelines.dataset.session import spark_session
from pipelines.recipe.dataset import Dataset

SHARD_BYTES = 64 << 20
WARM_UP_IMAGES = 200
FILE_IMAGES = 2000

Way = Callable[[SparkSession, Path, Path, argparse.Namespace], None]


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def image(noise: np.random.Generator, size: int) -> bytes:
    """A file with the structure of a PNG and `size` bytes of noise for pixels."""
    header = (64).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    return PNG + chunk(b"IHDR", header) + chunk(b"IDAT", noise.bytes(size)) + chunk(b"IEND", b"")


def make_source(folder: Path, images: int, settings: argparse.Namespace) -> int:
    """Write the source in files of FILE_IMAGES; returns the bytes of its images."""
    folder.mkdir(parents=True)
    noise, total = np.random.default_rng(0), 0
    for start in range(0, images, FILE_IMAGES):
        rows = []
        for i in range(start, min(start + FILE_IMAGES, images)):
            conditions = [
                {"kind": f"kind{k}", "image": image(noise, settings.kilobytes * 64)} for k in range(settings.conditions)
            ]
            captions = [f"caption {k} of the image with the number {i}" for k in range(settings.captions)]
            rows.append({"id": f"{i:09d}", "image": image(noise, settings.kilobytes * 1000), "captions": captions})
            rows[-1]["conditions"] = conditions
            total += len(rows[-1]["image"]) + sum(len(c["image"]) for c in conditions)
        schema = pa.schema(
            [
                *(("id", pa.string()), ("image", pa.binary()), ("captions", pa.list_(pa.string()))),
                ("conditions", pa.list_(pa.struct([("kind", pa.string()), ("image", pa.binary())]))),
            ]
        )
        table = pa.Table.from_pylist(rows, schema)
        pq.write_table(table, folder / f"part-{start:09d}.parquet", row_group_size=500, use_dictionary=False)
    return total


def query(settings: argparse.Namespace) -> str:
    """The rows that every way but `copy` writes."""
    sql = "SELECT id, image, caption{} FROM source LATERAL VIEW explode(captions) t AS caption"
    if not settings.conditions:
        return sql.format("")
    return sql.format(", c.kind, c.image AS condition") + " LATERAL VIEW explode(conditions) u AS c"


def by_build(spark: SparkSession, source: Path, output: Path, settings: argparse.Namespace) -> None:
    """headrace build: handles, one shuffle, the Arrow write stage, a Delta commit."""
    build(
        spark,
        Dataset.model_validate(
            {
                "source": {"path": str(source)},
                "query": query(settings),
                "shuffle": {"key": "id"},
                "shards": {"target_bytes": SHARD_BYTES},
                "output": {"path": str(output)},
            }
        ),
    )


def by_copy(spark: SparkSession, source: Path, output: Path, settings: argparse.Namespace) -> None:
    """Spark: whole images shuffled and written, nothing exploded."""
    partitions = _partitions(source)
    frame = spark.read.parquet(str(source)).select(
        "id", "image", "captions", *["conditions"] * bool(settings.conditions)
    )
    frame.repartition(partitions, "id").write.option("compression", "none").parquet(str(output))


def by_explode(spark: SparkSession, source: Path, output: Path, settings: argparse.Namespace) -> None:
    """Spark: exploded, shuffled by key, written with the writer's default settings."""
    _exploded(spark, source, settings).write.parquet(str(output))


def by_explode_dictionary(spark: SparkSession, source: Path, output: Path, settings: argparse.Namespace) -> None:
    """Spark: exploded, shuffled by key, written with dictionary pages as large as a shard."""
    writer = _exploded(spark, source, settings).write.option("compression", "none")
    writer.option("parquet.dictionary.page.size", str(2 * SHARD_BYTES)).option(
        "parquet.block.size", str(16 * SHARD_BYTES)
    ).option("parquet.page.row.count.limit", "100000").parquet(str(output))


def _exploded(spark: SparkSession, source: Path, settings: argparse.Namespace):
    spark.read.parquet(str(source)).repartition(_partitions(source), "id").createOrReplaceTempView("source")
    return spark.sql(query(settings))


def by_polars(spark: SparkSession, source: Path, output: Path, settings: argparse.Namespace) -> None:
    """Polars: explode in memory, no shuffle, default writer."""
    import polars as pl

    frame = pl.scan_parquet(str(source / "*.parquet")).select("id", "image", "captions", "conditions")
    frame = frame.explode("captions")
    if settings.conditions:
        frame = frame.explode("conditions").unnest("conditions", separator=".")
    else:
        frame = frame.drop("conditions")
    output.mkdir()
    frame.sink_parquet(str(output / "part.parquet"))


def by_duckdb(spark: SparkSession, source: Path, output: Path, settings: argparse.Namespace) -> None:
    """DuckDB: unnest, no shuffle, default writer."""
    import duckdb

    output.mkdir()
    conditions = ", unnest(conditions) AS condition" if settings.conditions else ""
    rows = duckdb.read_parquet(str(source / "*.parquet")).project(f"id, image, unnest(captions) AS caption{conditions}")
    rows.write_parquet(str(output / "part.parquet"))


WAYS: dict[str, Way] = {
    "copy": by_copy,
    "build": by_build,
    "explode": by_explode,
    "explode-dictionary": by_explode_dictionary,
    "polars": by_polars,
    "duckdb": by_duckdb,
}


def _partitions(source: Path) -> int:
    return max(2, sum(path.stat().st_size for path in source.glob("*.parquet")) // SHARD_BYTES)


def _stored(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.parquet"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--kilobytes", type=int, default=50, help="size of an image")
    parser.add_argument("--captions", type=int, default=6)
    parser.add_argument("--conditions", type=int, default=0, help="conditions of an image, each 1/16 of its size")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--folder", default=None, help="where to write; a temporary folder if left out")
    settings = parser.parse_args()
    spark = spark_session("benchmark", {"spark.master": "local[2]", "spark.driver.memory": "4g"})
    with tempfile.TemporaryDirectory(dir=settings.folder) as root:
        small, source = Path(root) / "small", Path(root) / "source"
        make_source(small, WARM_UP_IMAGES, settings)
        unique = make_source(source, settings.images, settings)
        table = Table("way", "seconds", "MB stored", "stored / unique", title=f"{unique / 1e6:,.0f} MB of unique bytes")
        for name in settings.ways.split(","):
            output = Path(root) / "output"
            WAYS[name](spark, small, output, settings)
            shutil.rmtree(output)
            started = time.perf_counter()
            WAYS[name](spark, source, output, settings)
            seconds = time.perf_counter() - started
            stored = _stored(output)
            table.add_row(name, f"{seconds:.1f}", f"{stored / 1e6:,.0f}", f"{stored / unique:.3f}")
            shutil.rmtree(output)
    Console().print(table)


if __name__ == "__main__":
    main()
