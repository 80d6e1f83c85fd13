"""Small sources for dataset tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from pyspark.sql import DataFrame, SparkSession

from headrace.dataset.storage import filesystem
from headrace.recipe.dataset import Dataset
from tests.object_store import BUCKET, object_store

QUERY = """
SELECT s.id, s.image, position, caption, c.kind, c.image AS condition
FROM source s
LATERAL VIEW OUTER posexplode(s.captions) t AS position, caption
LATERAL VIEW OUTER explode(s.conditions) u AS c
"""
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("image", pa.binary()),
        ("captions", pa.list_(pa.string())),
        ("conditions", pa.list_(pa.struct([("kind", pa.string()), ("image", pa.binary())]))),
    ]
)


def png(number: int, side: int = 8) -> bytes:
    """A PNG whose pixels depend only on `number`."""
    pixels = np.random.default_rng(number).integers(0, 256, (side, side, 3), np.uint8)
    return cv2.imencode(".png", pixels)[1].tobytes()


def row(number: int, captions: list[str | None] | None = None, conditions: int = 2) -> dict[str, object]:
    """A source row with its own image, `captions` (by default two) and `conditions` conditions."""
    return {
        "id": f"id{number:03d}",
        "image": png(number),
        "captions": [f"one of {number}", f"two of {number}"] if captions is None else captions,
        "conditions": [{"kind": f"kind{i}", "image": png(1000 * (i + 1) + number)} for i in range(conditions)],
    }


def recipe(source_path: Path, output_path: Path | str, query: str = QUERY, **sections: object) -> Dataset:
    """A recipe over the Parquet files at `source_path`."""
    return Dataset.model_validate(
        {
            "source": {"path": str(source_path)},
            "query": query,
            "shuffle": {"key": "id", "seed": 7},
            "shards": {"target_bytes": 4096},
            "output": {"path": str(output_path)},
            **sections,
        }
    )


@pytest.fixture
def parquet(tmp_path: Path) -> Callable[[list[dict]], Path]:
    """A function that writes rows as the Parquet source of a test."""

    def write(rows: list[dict]) -> Path:
        folder = tmp_path / "source"
        folder.mkdir()
        pa.parquet.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "part-0.parquet")
        return folder

    return write


def written(spark: SparkSession, output: Path) -> DataFrame:
    """The dataset's current version, read by Spark as a flat table."""
    return spark.read.parquet(*DeltaTable(str(output)).file_uris())


def expected(spark: SparkSession, source: Path, query: str) -> DataFrame:
    """Spark's result of `query` over the real bytes."""
    spark.read.parquet(str(source)).createOrReplaceTempView("source")
    frame = spark.sql(query).cache()
    frame.count()
    spark.catalog.dropTempView("source")
    return frame


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A real S3 server. Yields the environment that its clients need."""
    with object_store(tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@pytest.fixture
def uri(
    spark: SparkSession, store: dict[str, str], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> str:
    """This test's own prefix in the bucket. The driver and Spark's workers find the server by their environment."""
    for name, value in store.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setitem(spark.sparkContext.environment, name, value)
    return f"s3://{BUCKET}/{request.node.name.replace('[', '-').replace(' ', '-').rstrip(']')}"


@pytest.fixture(params=["local folder", "object store"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a test writes its dataset: a path that does not exist yet, or an empty prefix of a bucket."""
    return str(tmp_path / "out") if request.param == "local folder" else request.getfixturevalue("uri")


def listed(root: str) -> set[str]:
    """The files at and below `root`, as paths relative to it."""
    files, folder = filesystem(root)
    found = files.get_file_info(pa.fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return {file.path.removeprefix(f"{folder}/") for file in found if file.is_file}


def put(root: str, name: str, data: bytes) -> None:
    """Write the file `root`/`name`."""
    files, folder = filesystem(root)
    path = f"{folder}/{name}"
    files.create_dir(path.rpartition("/")[0])
    with files.open_output_stream(path) as stream:
        stream.write(data)
