"""Datasets on a real S3 server: built, rebuilt, read back by the loader, vacuumed, and what goes wrong."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from headrace.dataset.build import build
from headrace.dataset.storage import filesystem
from headrace.dataset.version.commit import File, commit
from headrace.dataset.version.vacuum import vacuum
from headrace.dataset.write.shards import QUARANTINE
from headrace.errors import DataError, RecipeError
from headrace.jobs import report
from headrace.loading import ShardLoader
from tests.dataset.conftest import SCHEMA, recipe, row
from tests.object_store import BUCKET, object_store

QUERY = "SELECT id, image, caption FROM source LATERAL VIEW explode(captions) t AS caption"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with object_store(tmp_path_factory.mktemp("s3")) as environment:
        yield environment


@pytest.fixture
def uri(spark, store: dict[str, str], request, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of this test's own in the bucket; the driver and Spark's workers find the server by their environment."""
    for name, value in store.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setitem(spark.sparkContext.environment, name, value)
    return f"s3://{BUCKET}/{request.node.name}"


def listed(uri: str) -> set[str]:
    files, folder = filesystem(uri)
    found = files.get_file_info(pa.fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return {file.path.removeprefix(f"{folder}/") for file in found if file.is_file}


def test_a_dataset_goes_there_and_comes_back(spark, parquet, uri: str) -> None:
    rows = [row(i) for i in range(6)]
    source = parquet(rows)
    made = recipe(source, Path("unused"), QUERY, output={"path": uri}, shards={"target_bytes": 1024})
    assert build(spark, made).version == 0
    assert build(spark, made).unchanged
    loader = ShardLoader(uri, batch_size=4, size=8, columns=["id", "image", "caption"], decode={"image": "rgb"})
    read = [(key, caption) for batch in loader for key, caption in zip(batch["id"], batch["caption"], strict=True)]
    assert sorted(read) == sorted((r["id"], caption) for r in rows for caption in r["captions"])
    pq.write_table(pa.Table.from_pylist([row(9)], SCHEMA), source / "part-1.parquet")
    spark.catalog.refreshByPath(str(source))
    assert build(spark, made).version == 1
    names = listed(uri)
    assert {"_headrace/absence-1.json", "_headrace/lineage-1.json"} <= names
    assert report.main([uri]) == 0
    files, folder = filesystem(uri)
    with files.open_input_stream(f"{folder}/_headrace/report.html") as page:
        assert b"one of 9" in page.read()
    assert not any(name.endswith("/") for name in names)


def test_bad_rows_and_what_is_left_over(spark, parquet, uri: str) -> None:
    bad = [row(i) for i in range(4)]
    bad[2]["image"] = bad[2]["image"][:30]
    source = parquet(bad)
    with pytest.raises(DataError, match="id002"):
        build(spark, recipe(source, Path("unused"), QUERY, output={"path": uri}))
    assert listed(uri) == set()
    made = recipe(source, Path("unused"), QUERY, output={"path": uri}, on_bad_row="quarantine")
    assert build(spark, made).dropped == {"image: truncated": 2}
    assert DeltaTable(f"{uri}/{QUARANTINE}").to_pyarrow_table().num_rows == 2
    files, folder = filesystem(uri)
    orphans = ["shard-000001-aaaaaaaaaaaa-7.parquet", f"{QUARANTINE}/shard-000001-bbbbbbbbbbbb-7.parquet"]
    for name in orphans:
        with files.open_output_stream(f"{folder}/{name}") as stream:
            stream.write(b"left over")
    before = listed(uri)
    assert vacuum(uri) == []
    assert vacuum(uri, grace_hours=0) == orphans
    assert listed(uri) == before - set(orphans)


def test_first_builds_at_once_lose_nothing(uri: str) -> None:
    schema = pa.schema([("a", pa.int64()), ("ds", pa.string())])
    files, folder = filesystem(uri)
    start, versions = threading.Barrier(6), []

    def one(number: int) -> None:
        name = f"shard-00000{number}-0123456789ab-0.parquet"
        pq.write_table(pa.table({"a": [number]}), f"{folder}/{name}", filesystem=files)
        size = files.get_file_info(f"{folder}/{name}").size
        start.wait()
        versions.append(commit(uri, schema, [File(name, 1, size, '{"numRecords": 1}')], {}, ("ds", str(number % 3))))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(6))
    rows = DeltaTable(uri).to_pyarrow_table().to_pylist()
    assert sorted(r["ds"] for r in rows) == ["0", "1", "2"]
    assert all(r["a"] % 3 == int(r["ds"]) for r in rows)


def test_what_is_no_dataset_is_one_line(uri: str) -> None:
    with pytest.raises(RecipeError, match="--vacuum: found nothing"):
        vacuum(uri)
    files, folder = filesystem(uri)
    with files.open_output_stream(f"{folder}/notes.txt") as stream:
        stream.write(b"mine")
    with pytest.raises(RecipeError, match="--vacuum: found no Delta log"):
        vacuum(uri)
    assert listed(uri) == {"notes.txt"}
