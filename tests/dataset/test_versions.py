"""Versions of a dataset: what stands, what is replaced, what is left over."""

import os
import threading
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from pipelines.dataset.build import build
from pipelines.dataset.commit import File, commit
from pipelines.dataset.shards import QUARANTINE
from pipelines.dataset.vacuum import vacuum
from pipelines.errors import DataError, RecipeError
from tests.dataset.conftest import SCHEMA, recipe, row, written

QUERY = "SELECT id, image, caption FROM source LATERAL VIEW explode(captions) t AS caption"


def test_the_same_again_changes_nothing(spark, parquet, tmp_path: Path) -> None:
    source, output = parquet([row(i) for i in range(4)]), tmp_path / "out"
    first = build(spark, recipe(source, output, QUERY))
    before = sorted(output.rglob("*"))
    again = build(spark, recipe(source, output, QUERY))
    assert (again.unchanged, again.version) == (True, first.version) == (True, 0)
    assert sorted(output.rglob("*")) == before
    pq.write_table(pa.Table.from_pylist([row(9)], SCHEMA), source / "part-1.parquet")
    spark.catalog.refreshByPath(str(source))
    changed = build(spark, recipe(source, output, QUERY))
    assert (changed.unchanged, changed.version, changed.rows_in) == (False, 1, 5)
    other = build(spark, recipe(source, output, QUERY, shuffle={"key": "id", "seed": 8}))
    assert other.version == 2


def test_a_partition_is_replaced_alone(spark, parquet, tmp_path: Path) -> None:
    source, output = tmp_path / "days", tmp_path / "out"

    def day(value: str, numbers: range) -> None:
        folder = source / f"ds={value}"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([row(i) for i in numbers], SCHEMA), folder / "part-0.parquet")
        spark.catalog.refreshByPath(str(source))

    def made(value: str):
        query = "SELECT id, image, ds, caption FROM source LATERAL VIEW explode(captions) t AS caption"
        plan = recipe(source, output, query, output={"path": str(output), "partition": "ds"})
        return build(spark, plan, ("ds", value))

    day("2026-11-21", range(3))
    assert made("2026-11-21").rows == 6
    day("2026-11-22", range(10, 14))
    assert made("2026-11-22").rows == 8
    assert made("2026-11-21").unchanged
    assert made("2026-11-22").unchanged
    day("2026-11-22", range(20, 21))
    assert made("2026-11-22").version == 2
    rows = DeltaTable(str(output)).to_pyarrow_table().to_pylist()
    assert Counter(r["ds"] for r in rows) == {"2026-11-21": 6, "2026-11-22": 2}
    assert {r["id"] for r in rows} == {"id000", "id001", "id002", "id020"}
    assert made("2026-11-21").unchanged
    with pytest.raises(RecipeError, match=r"found nothing, expected ds=VALUE"):
        build(spark, recipe(source, output, QUERY, output={"path": str(output), "partition": "ds"}))
    with pytest.raises(RecipeError, match=r"dataset\.output\.partition: found None, expected 'ds'"):
        build(spark, recipe(source, output, QUERY))


def test_bad_rows_go_to_quarantine_with_their_reason(spark, parquet, tmp_path: Path) -> None:
    bad = [row(i) for i in range(4)]
    bad[2]["image"] = bad[2]["image"][:30]
    summary = build(spark, recipe(parquet(bad), tmp_path / "out", QUERY, on_bad_row="quarantine"))
    assert (summary.rows, summary.dropped) == (6, {"image: truncated": 2})
    aside = DeltaTable(str(tmp_path / "out" / QUARANTINE)).to_pyarrow_table().to_pylist()
    assert [(r["key"], r["reason"], r["image"]) for r in aside] == [("id002", "image: truncated", bad[2]["image"])] * 2
    assert {r["caption"] for r in aside} == {"one of 2", "two of 2"}


def test_a_failed_build_leaves_the_version_before(spark, parquet, tmp_path: Path) -> None:
    source, output = parquet([row(i) for i in range(3)]), tmp_path / "out"
    build(spark, recipe(source, output, QUERY))
    files = sorted(output.rglob("*"))
    pq.write_table(pa.Table.from_pylist([{**row(7), "image": b"no"}], SCHEMA), source / "part-1.parquet")
    spark.catalog.refreshByPath(str(source))
    with pytest.raises(DataError, match="id007"):
        build(spark, recipe(source, output, QUERY))
    assert sorted(output.rglob("*")) == files
    assert written(spark, output).count() == 6


def test_vacuum_removes_what_no_version_names(spark, parquet, tmp_path: Path) -> None:
    source, output = parquet([row(i) for i in range(3)]), tmp_path / "out"
    build(spark, recipe(source, output, QUERY))
    build(spark, recipe(source, output, QUERY, shuffle={"key": "id", "seed": 3}))
    old, young = (output / f"shard-000001-{name * 12}-7.parquet" for name in "ab")
    theirs = output / "notes.parquet"
    for path in (old, young, theirs):
        path.write_bytes(b"left over")
    os.utime(old, (time.time() - 7200,) * 2)
    assert vacuum(str(output), grace_hours=1) == [old.name]
    assert young.exists()
    assert theirs.exists()
    assert vacuum(str(output), grace_hours=0) == [young.name]
    for version in (0, 1):
        assert DeltaTable(str(output), version=version).to_pyarrow_table().num_rows == 6


def test_what_a_killed_first_build_left_is_no_obstacle(spark, parquet, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "shard-000000-0123456789ab-3.parquet").write_bytes(b"half")
    assert build(spark, recipe(parquet([row(0)]), output, QUERY)).version == 0
    assert written(spark, output).count() == 2


def test_builds_at_once_lose_nothing(tmp_path: Path) -> None:
    schema = pa.schema([("a", pa.int64()), ("ds", pa.string())])
    root, start, versions = str(tmp_path / "out"), threading.Barrier(6), []
    (tmp_path / "out").mkdir()

    def one(number: int) -> None:
        name = f"shard-00000{number}-0123456789ab-0.parquet"
        pq.write_table(pa.table({"a": [number]}), f"{root}/{name}")
        file = File(name, 1, os.path.getsize(f"{root}/{name}"), '{"numRecords": 1}')
        start.wait()
        versions.append(commit(root, schema, [file], {}, ("ds", str(number % 3))))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(6))
    rows = DeltaTable(root).to_pyarrow_table().to_pylist()
    assert sorted(r["ds"] for r in rows) == ["0", "1", "2"]
    assert all(r["a"] % 3 == int(r["ds"]) for r in rows)


def test_a_dry_run_writes_nothing(spark, parquet, tmp_path: Path) -> None:
    source, output = parquet([row(i) for i in range(5)]), tmp_path / "out"
    summary = build(spark, recipe(source, output, QUERY + " WHERE id < 'id002'"), dry_run=True)
    assert not output.exists()
    assert summary.rows_in == 5
    assert summary.rows_named == 2
    assert summary.media_bytes == sum(len(row(i)["image"]) for i in range(2))
    assert "Generate explode" in summary.plan
