"""Versions of a dataset, in a local folder and in an object store: what is kept, replaced and left behind."""

import json
import os
import threading
import time
from collections import Counter
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from headrace.dataset.build import build
from headrace.dataset.storage import filesystem
from headrace.dataset.version.commit import File, commit
from headrace.dataset.version.vacuum import vacuum
from headrace.dataset.write.shards import QUARANTINE
from headrace.errors import DataError, RecipeError
from tests.dataset.conftest import SCHEMA, listed, put, recipe, row, written

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
    with pytest.raises(RecipeError, match=r"dataset\.output\.partition: found None, expected 'ds'"):
        build(spark, recipe(source, output, QUERY))


def test_bad_rows_go_to_quarantine_with_their_reason(spark, parquet, tmp_path: Path, output: str) -> None:
    bad = [row(i) for i in range(4)]
    bad[2]["image"] = bad[2]["image"][:30]
    summary = build(spark, recipe(parquet(bad), output, QUERY, on_bad_row="quarantine"))
    assert (summary.rows, summary.dropped) == (6, {"image: truncated": 2})
    aside = DeltaTable(f"{output}/{QUARANTINE}").to_pyarrow_table().to_pylist()
    assert [(r["key"], r["reason"], r["image"]) for r in aside] == [("id002", "image: truncated", bad[2]["image"])] * 2
    assert {r["caption"] for r in aside} == {"one of 2", "two of 2"}
    pq.write_table(pa.Table.from_pylist([row(i) for i in range(4)], SCHEMA), tmp_path / "good.parquet")
    build(spark, recipe(tmp_path / "good.parquet", output, QUERY, on_bad_row="quarantine"))
    assert DeltaTable(f"{output}/{QUARANTINE}").to_pyarrow_table().num_rows == 0


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


def test_a_failed_first_build_leaves_no_file(spark, parquet, output: str) -> None:
    source = parquet([row(0), {**row(1), "image": b"no"}])
    for on_bad_row, query in (("fail", QUERY), ("quarantine", f"{QUERY} WHERE raise_error('on purpose') IS NULL")):
        made = recipe(source, output, query, on_bad_row=on_bad_row, shards={"target_bytes": 1024})
        with pytest.raises(DataError, match="id001" if on_bad_row == "fail" else "on purpose"):
            build(spark, made)
        assert listed(output) == set()


def test_a_failed_first_build_leaves_only_folders_that_were_there(spark, parquet, tmp_path: Path) -> None:
    made = recipe(parquet([{**row(1), "image": b"no"}]), tmp_path / "new" / "out", QUERY)
    with pytest.raises(DataError, match="id001"):
        build(spark, made)
    assert not (tmp_path / "new").exists()
    (tmp_path / "new").mkdir()
    with pytest.raises(DataError, match="id001"):
        build(spark, made)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_failed_build_deletes_what_it_wrote_and_nothing_else(spark, parquet, tmp_path: Path) -> None:
    """The only two rows are bad. They go to quarantine, whose version keeps its files, and no row is left to write."""
    source, output = parquet([{**row(0), "image": b"no"}]), tmp_path / "out"
    with pytest.raises(DataError, match="no rows to write"):
        build(spark, recipe(source, output, QUERY, on_bad_row="quarantine"))
    assert DeltaTable(str(output / QUARANTINE)).to_pyarrow_table().num_rows == 2
    assert not list(output.glob("*.parquet"))


def test_the_log_says_what_a_version_was_made_from(spark, parquet, tmp_path: Path) -> None:
    source, output = parquet([row(0), {**row(1), "image": b"no"}, row(2)]), tmp_path / "out"
    summary = build(spark, recipe(source, output, QUERY, on_bad_row="drop"))
    entry = DeltaTable(str(output)).history(1)[0]
    assert json.loads(entry["headrace.source"]) == {"path": str(source), "format": "parquet"}
    assert entry["headrace.code"] == metadata.version("headrace")
    assert entry["headrace.query"] == QUERY
    assert (entry["headrace.rows_in"], entry["headrace.rows"], entry["headrace.images"]) == ("3", "4", "2")
    assert json.loads(entry["headrace.dropped"]) == {"image: unknown format": 2} == summary.dropped
    assert int(entry["headrace.stored_bytes"]) == sum(file.stat().st_size for file in output.glob("*.parquet"))
    assert int(entry["headrace.media_bytes"]) == len(row(0)["image"]) + len(row(2)["image"])
    assert set(json.loads(entry["headrace.seconds"])) >= {"survey", "write"}
    before = (entry["headrace.recipe"], entry["headrace.snapshot"])
    pq.write_table(pa.Table.from_pylist([row(7)], SCHEMA), source / "part-1.parquet")
    spark.catalog.refreshByPath(str(source))
    build(spark, recipe(source, output, QUERY, on_bad_row="drop"))
    entry = DeltaTable(str(output)).history(1)[0]
    assert entry["headrace.recipe"] == before[0]
    assert entry["headrace.snapshot"] != before[1]
    build(spark, recipe(source, output, QUERY + " WHERE id < 'id003'", on_bad_row="drop"))
    assert DeltaTable(str(output)).history(1)[0]["headrace.recipe"] != before[0]


def test_a_table_that_the_query_joins_is_part_of_the_source(spark, parquet, tmp_path: Path) -> None:
    source, output = parquet([row(i) for i in range(2)]), tmp_path / "out"
    spark.sql("CREATE TABLE versions_kept AS SELECT 'id000' AS id")
    made = recipe(source, output, "SELECT id, image FROM source JOIN versions_kept USING (id)")
    assert build(spark, made).rows == 1
    assert build(spark, made).unchanged
    spark.sql("INSERT INTO versions_kept VALUES ('id001')")
    assert build(spark, made).rows == 2


def test_a_delta_source_is_known_by_its_files(spark, tmp_path: Path) -> None:
    source, output = str(tmp_path / "days"), tmp_path / "out"

    def add(day: str, number: int) -> None:
        table = pa.Table.from_pylist([{**row(number), "ds": day}], SCHEMA.append(pa.field("ds", pa.string())))
        write_deltalake(source, table, mode="append", partition_by=["ds"])

    def made(day: str):
        plan = recipe(
            tmp_path,
            output,
            QUERY,
            source={"path": source, "format": "delta"},
            output={"path": str(output), "partition": "ds"},
        )
        return build(spark, plan, ("ds", day))

    add("2026-11-21", 1)
    add("2026-11-22", 2)
    assert made("2026-11-21").rows == 2
    assert json.loads(DeltaTable(str(output)).history(1)[0]["headrace.source"])["version"] == 1
    add("2026-11-22", 3)
    assert made("2026-11-21").unchanged, "other partitions do not count"
    assert made("2026-11-22").rows == 4


def test_vacuum_removes_what_no_version_names(spark, parquet, output: str) -> None:
    source = parquet([row(i) for i in range(3)])
    build(spark, recipe(source, output, QUERY))
    build(spark, recipe(source, output, QUERY, shuffle={"key": "id", "seed": 3}))
    orphans = ["shard-000001-aaaaaaaaaaaa-7.parquet", f"{QUARANTINE}/shard-000001-bbbbbbbbbbbb-7.parquet"]
    for name in (*orphans, "notes.parquet"):
        put(output, name, b"left over")
    before = listed(output)
    assert vacuum(output) == [], "a build that runs now may have written them"
    assert vacuum(output, grace_hours=0) == orphans
    assert listed(output) == before - set(orphans)
    for version in (0, 1):
        assert DeltaTable(output, version=version).to_pyarrow_table().num_rows == 6


def test_vacuum_goes_by_the_age_of_a_file(spark, parquet, tmp_path: Path) -> None:
    output = tmp_path / "out"
    build(spark, recipe(parquet([row(0)]), output, QUERY))
    old, young = (output / f"shard-000001-{name * 12}-7.parquet" for name in "ab")
    for path in (old, young):
        path.write_bytes(b"left over")
    os.utime(old, (time.time() - 7200,) * 2)
    assert vacuum(str(output), grace_hours=1) == [old.name]
    assert young.exists()


def test_what_a_killed_first_build_left_is_no_obstacle(spark, parquet, tmp_path: Path) -> None:
    output = tmp_path / "out"
    output.mkdir()
    (output / "shard-000000-0123456789ab-3.parquet").write_bytes(b"half")
    assert build(spark, recipe(parquet([row(0)]), output, QUERY)).version == 0
    assert written(spark, output).count() == 2


def test_vacuum_refuses_a_folder_without_a_dataset(output: str) -> None:
    shard = "shard-000000-0123456789ab-3.parquet"
    with pytest.raises(RecipeError, match=r"--vacuum: found nothing at .*, expected a dataset"):
        vacuum(output)
    put(output, shard, b"somebody else's file with a name like ours")
    put(output, "notes.txt", b"mine")
    with pytest.raises(RecipeError, match="--vacuum: found no Delta log"):
        vacuum(output, grace_hours=0)
    with pytest.raises(RecipeError, match="--vacuum: found a file"):
        vacuum(f"{output}/{shard}", grace_hours=0)
    assert listed(output) == {shard, "notes.txt"}


def test_vacuum_after_a_killed_first_build(tmp_path: Path) -> None:
    (tmp_path / "shard-000000-0123456789ab-3.parquet").write_bytes(b"half")
    assert vacuum(str(tmp_path), grace_hours=0) == ["shard-000000-0123456789ab-3.parquet"]
    assert list(tmp_path.iterdir()) == []


def test_builds_at_once_lose_nothing(output: str) -> None:
    schema = pa.schema([("a", pa.int64()), ("ds", pa.string())])
    files, folder = filesystem(output)
    files.create_dir(folder)
    start, versions = threading.Barrier(6), []

    def one(number: int) -> None:
        name = f"shard-00000{number}-0123456789ab-0.parquet"
        pq.write_table(pa.table({"a": [number]}), f"{folder}/{name}", filesystem=files)
        file = File(name, 1, files.get_file_info(f"{folder}/{name}").size, '{"numRecords": 1}')
        start.wait()
        versions.append(commit(output, schema, [file], {}, ("ds", str(number % 3))))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(6))
    rows = DeltaTable(output).to_pyarrow_table().to_pylist()
    assert sorted(r["ds"] for r in rows) == ["0", "1", "2"]
    assert all(r["a"] % 3 == int(r["ds"]) for r in rows)


def test_a_dry_run_writes_nothing(spark, parquet, tmp_path: Path) -> None:
    source, output = parquet([row(i) for i in range(5)]), tmp_path / "out"
    summary = build(spark, recipe(source, output, QUERY + " WHERE id < 'id002'"), dry_run=True)
    assert not output.exists()
    assert summary.rows_in == 5
    assert summary.rows_named == 2
    assert summary.media_bytes == pytest.approx(sum(len(row(i)["image"]) for i in range(2)), rel=0.7)  # from the footer
    assert "Generate explode" in summary.plan
