"""Versions of a dataset, in a local folder and in an object store: what is kept, replaced and left behind."""

import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from deltalake import DeltaTable, write_deltalake
from pyspark.sql.types import StructType

from headrace.dataset.build import build
from headrace.dataset.partitions import spelled
from headrace.dataset.session import conf
from headrace.dataset.storage import filesystem
from headrace.dataset.version.commit import File, check_files, commit
from headrace.dataset.version.vacuum import vacuum
from headrace.dataset.write.shards import QUARANTINE, _statistics
from headrace.errors import DataError, RecipeError
from headrace.jobs import report
from headrace.loading import ShardLoader
from headrace.reports.dataset_versions import read_versions
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
        query = "SELECT id, image, DS, caption FROM source LATERAL VIEW explode(captions) t AS caption"
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
    before = listed(str(output))
    with pytest.raises(RecipeError, match=r"dataset\.output\.partition: found None, expected 'ds'"):
        build(spark, recipe(source, output, QUERY))
    assert listed(str(output)) == before


BY_HOUR = "SELECT id, image, hour, caption FROM source LATERAL VIEW explode(captions) t AS caption"


def counts(output: Path) -> dict[str | None, int]:
    return Counter(DeltaTable(str(output)).to_pyarrow_table(columns=["hour"])["hour"].to_pylist())


def test_a_partition_is_spelled_like_the_folders(spark, tmp_path: Path) -> None:
    source, output = tmp_path / "hours", tmp_path / "out"
    for number, name in enumerate(["01", "02", "__HIVE_DEFAULT_PARTITION__"]):
        (source / f"hour={name}").mkdir(parents=True)
        pq.write_table(pa.Table.from_pylist([row(number)], SCHEMA), source / f"hour={name}" / "part-0.parquet")
    made = recipe(source, output, BY_HOUR, output={"path": str(output), "partition": "hour"})
    first = build(spark, made, ("hour", "01"))
    assert (first.rows, first.partition, counts(output)) == (2, ("hour", "1"), {"1": 2})
    assert build(spark, made, ("hour", "1")).unchanged
    assert build(spark, made, ("hour", "")).rows == 2
    assert counts(output) == {"1": 2, None: 2}
    assert build(spark, made, ("hour", "01")).unchanged
    assert build(spark, made).rows == 6
    build(spark, made, ("hour", "__HIVE_DEFAULT_PARTITION__"))
    assert counts(output) == {"1": 2, "2": 2, None: 2}
    assert len(ShardLoader(output, batch_size=1, where={"hour": ""})) == 2
    assert len(ShardLoader(output, batch_size=1, where={"hour": "2"})) == 2
    assert [version.partition for version in read_versions(str(output))] == ["hour=", "", "hour=", "hour=1"]
    with pytest.raises(RecipeError, match=r"dataset\.output\.partition: found hour=noon, expected a value of type int"):
        build(spark, made, ("hour", "noon"))


def test_a_row_without_media_needs_no_partition(spark, parquet, tmp_path: Path) -> None:
    output = tmp_path / "out"
    query = "SELECT id, IF(id = 'id001', NULL, image) AS image FROM source"
    made = recipe(
        *(parquet([row(i) for i in range(3)]), output, query),
        on_bad_row="drop",
        output={"path": str(output), "partition": "id"},
    )
    summary = build(spark, made)
    assert (summary.rows, summary.dropped) == (2, {"image is missing": 1})
    assert DeltaTable(str(output)).to_pyarrow_table(columns=["id"])["id"].to_pylist() == ["id000", "id002"]


def test_empty_text_and_null_are_one_partition(spark, parquet, tmp_path: Path) -> None:
    source, output = tmp_path / "texts", tmp_path / "out"
    frame = spark.read.parquet(str(parquet([row(i) for i in range(6)])))
    frame.selectExpr("*", "element_at(array('', NULL, '01'), 1 + int(substr(id, -1)) % 3) AS hour").write.parquet(
        str(source)
    )
    made = recipe(source, output, BY_HOUR, output={"path": str(output), "partition": "hour"})
    assert build(spark, made).rows == 12
    assert counts(output) == {None: 8, "01": 4}
    build(spark, made, ("hour", ""))
    assert counts(output) == {None: 8, "01": 4}
    with pytest.raises(DataError, match="no rows to write"):
        build(spark, made, ("hour", "1"))
    assert (
        build(spark, recipe(source, output, BY_HOUR.replace(" image,", ""), output=made.output.model_dump())).rows == 12
    )
    assert counts(output) == {None: 8, "01": 4}
    changed = "SELECT id, concat(hour, '!') AS hour FROM source"
    with pytest.raises(DataError, match=r"found hour=.*!, expected a value that the source has"):
        build(spark, recipe(source, output, changed, output=made.output.model_dump()))


def test_a_partition_has_the_rows_whose_values_have_its_text(spark, parquet, tmp_path: Path) -> None:
    """0.0 = -0.0, and a clock that is put back shows an hour twice."""
    frame = spark.read.parquet(str(parquet([row(i) for i in range(6)])))
    with conf(spark, {"spark.sql.session.timeZone": "America/New_York"}):
        for kind, texts, values in [
            ("double", ("-0.0", "0.0", "NaN"), "-0.0D, 0.0D, double('NaN')"),
            ("twice", ("2025-11-02 00:30:00", "2025-11-02 01:30:00"), "t'04:30', t'05:30', t'06:30'"),
        ]:
            values = re.sub("t'([0-9:]+)'", r"timestamp '2025-11-02 \1:00Z'", values)
            source, output = tmp_path / kind, tmp_path / f"out-{kind}"
            frame.selectExpr("*", f"element_at(array({values}), 1 + int(substr(id, -1)) % 3) AS hour").write.parquet(
                str(source)
            )
            made = recipe(source, output, BY_HOUR, output={"path": str(output), "partition": "hour"})
            build(spark, made)
            whole = counts(output)
            assert (set(whole), sum(whole.values())) == (set(texts), 12)
            for text in texts:
                assert build(spark, made, ("hour", text)).rows == whole[text]
                assert counts(output) == whole


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("string", {"01": "01", " ": " ", "": None, "__HIVE_DEFAULT_PARTITION__": None}),
        ("int", {"01": "1", "-7": "-7", "": None, "x": ...}),
        ("date", {"2026-1-5": "2026-01-05", "2026-13-01": ...}),
        ("decimal(5,2)", {"1.5": "1.50"}),
        ("boolean", {"TRUE": "true", "2": ...}),
        ("string COLLATE UTF8_LCASE", {"A": "A", "a": "a"}),
    ],
)
@pytest.mark.parametrize("ansi", ["true", "false"])
def test_what_a_partition_spells(spark, kind: str, texts: dict, ansi: str) -> None:
    data_type = spark.sql(f"SELECT CAST(NULL AS {kind}) AS x").schema["x"].dataType
    with conf(spark, {"spark.sql.ansi.enabled": ansi}):
        found = spelled(spark, texts, data_type)
    assert {text: found.get(text, ...) for text in texts} == texts


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


def test_builds_at_once_lose_nothing(spark, output: str) -> None:
    schema = StructType.fromDDL("a bigint, ds string")
    files, folder = filesystem(output)
    files.create_dir(folder)
    start, versions = threading.Barrier(6), []

    def one(number: int) -> None:
        name = f"shard-00000{number}-0123456789ab-0.parquet"
        pq.write_table(pa.table({"a": [number]}), f"{folder}/{name}", filesystem=files)
        file = File(name, 1, files.get_file_info(f"{folder}/{name}").size, '{"numRecords": 1}', str(number % 3))
        start.wait()
        versions.append(commit(output, schema, [file], {}, ("ds", file.value), "ds"))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(versions) == list(range(6))
    rows = DeltaTable(output).to_pyarrow_table().to_pylist()
    assert sorted(r["ds"] for r in rows) == ["0", "1", "2"]
    assert all(r["a"] % 3 == int(r["ds"]) for r in rows)


def put_shard(output: Path, number: int, table: pa.Table, value: str | None = None) -> File:
    output.mkdir(exist_ok=True)
    path = output / f"shard-{number:06d}-0123456789ab-0.parquet"
    pq.write_table(table, path)
    stats = {"numRecords": table.num_rows, **_statistics(table, ())}
    return File(path.name, table.num_rows, path.stat().st_size, json.dumps(stats), value)


def test_a_partition_may_have_other_columns(spark, tmp_path: Path) -> None:
    output = tmp_path / "out"

    def commit_day(day: str, columns: str, **values: object) -> list[dict]:
        number = len(list(output.glob("*.parquet")))
        table = pa.table({name: pa.array([value]) for name, value in values.items()})
        file = put_shard(output, number, table, day)
        commit(str(output), StructType.fromDDL(f"{columns}, ds string"), [file], {}, ("ds", day), "ds")
        rows = DeltaTable(str(output)).to_pyarrow_table().to_pylist()
        return sorted(rows, key=lambda r: r["ds"])

    commit_day("1", "a string", a="x")
    assert commit_day("1", "a bigint", a=1) == [{"a": 1, "ds": "1"}], "there is no other partition"
    assert commit_day("2", "b bigint, a bigint", a=2, b=2) == [
        {"a": 1, "ds": "1", "b": None},
        {"a": 2, "ds": "2", "b": 2},
    ]
    assert commit_day("3", "b bigint", b=3)[2] == {"a": None, "ds": "3", "b": 3}
    noon = datetime(2026, 11, 22, 12)
    assert [r["t"] for r in commit_day("4", "a bigint, t timestamp_ntz", a=4, t=noon)] == [None, None, None, noon]
    loader = ShardLoader(output, batch_size=4, columns=["a", "b"])
    batch = next(iter(loader))
    masked = {name: torch.where(batch[f"{name}_mask"], batch[name], -1).tolist() for name in "ab"}
    assert sorted(zip(masked["a"], masked["b"], strict=True)) == [(-1, 3), (1, -1), (2, 2), (4, -1)]
    version = DeltaTable(str(output)).version()
    for columns, found in (
        ("a string", "'a' of type string"),
        ("a int", "'a' of type int"),
        ("A bigint", "'A' of type"),
    ):
        with pytest.raises(RecipeError, match=f"dataset.query: found column {found}.*, expected 'a' of type bigint"):
            commit_day("5", columns, a=1)
    assert DeltaTable(str(output)).version() == version


def test_another_type_is_refused_before_anything_is_written(spark, parquet, tmp_path: Path) -> None:
    source, output = tmp_path / "days", tmp_path / "out"
    spark.read.parquet(str(parquet([row(i) for i in range(2)]))).selectExpr("*", "substr(id, -1) AS ds").write.parquet(
        str(source)
    )

    def made(value: str, day: str | None):
        plan = recipe(
            *(source, output, f"SELECT id, image, ds, {value} AS n FROM source"),
            output={"path": str(output), "partition": "ds"},
        )
        return build(spark, plan, day and ("ds", day))

    made("'one'", "0")
    before = listed(str(output))
    with pytest.raises(RecipeError, match="'n' of type int, expected 'n' of type string as in other partitions"):
        made("1", "1")
    assert listed(str(output)) == before
    made("1", None)
    assert DeltaTable(str(output)).to_pyarrow_table(columns=["n"]).to_pylist() == [{"n": 1}, {"n": 1}]


TYPES = {
    "flag": "true",
    "byte": "CAST(-7 AS TINYINT)",
    "short": "CAST(300 AS SMALLINT)",
    "whole": "CAST(70000 AS INT)",
    "long": "CAST(5000000000 AS BIGINT)",
    "single": "CAST(0.5 AS FLOAT)",
    "double": "CAST('NaN' AS DOUBLE)",
    "exact": "CAST('12345678901234567890.123456789012345678' AS DECIMAL(38, 18))",
    "text": "CAST('é' AS VARCHAR(5))",
    "fixed": "CAST('é' AS CHAR(3))",
    "folded": "'A' COLLATE UTF8_LCASE",
    "day": "DATE'0001-01-01'",
    "at": "TIMESTAMP'2026-03-29 12:34:56.789012Z'",
    "local": "TIMESTAMP_NTZ'2026-03-29 02:30:00'",
    "parsed": "parse_instant('2026-03-29T12:34:56.789012Z')",
    "list": "array(1, NULL)",
    "lists": "array(array(TIMESTAMP'2026-03-29 12:34:56Z'), NULL)",
    "place": "named_struct('x', 1, 'at', named_struct('local', TIMESTAMP_NTZ'2026-03-29 02:30:00', 'no', DATE(NULL)))",
    "words": "map('a', array('b'), 'c', NULL)",
    "scores": "map(1, CAST(1.5 AS DECIMAL(3, 1)))",
}
SETTINGS = {
    "spark.sql.execution.arrow.useLargeVarTypes": "true",
    "spark.sql.session.timeZone": "America/St_Johns",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.legacy.sizeOfNull": "false",
    "spark.sql.caseSensitive": "true",
}


def test_every_type_comes_out_as_it_went_in(spark, parquet, tmp_path: Path) -> None:
    """Whatever the session's settings are."""
    source = parquet([row(i) for i in range(2)])
    columns = ", ".join(f"IF(id = 'id000', {value}, NULL) AS {name}" for name, value in TYPES.items())
    utc, day = datetime(2026, 3, 29, 12, 34, 56, 789012, tzinfo=UTC), datetime(2026, 3, 29, 2, 30)
    right = {
        "flag": True,
        "byte": -7,
        "short": 300,
        "whole": 70000,
        "long": 5_000_000_000,
        "single": 0.5,
        "exact": Decimal("12345678901234567890.123456789012345678"),
        "text": "é",
        "fixed": "é",
        "folded": "A",
        "day": date(1, 1, 1),
        "at": utc,
        "local": day,
        "parsed": utc,
        "list": [1, None],
        "lists": [[utc.replace(microsecond=0)], None],
        "place": {"x": 1, "at": {"local": day, "no": None}},
        "words": [("a", ["b"]), ("c", None)],
        "scores": [(1, Decimal("1.5"))],
    }
    tables = []
    for number, odd in enumerate([{}, SETTINGS]):
        output = tmp_path / str(number)
        query = f"SELECT id, image, array_size(captions) AS n, {columns} FROM source"
        with conf(spark, odd):
            build(spark, recipe(source, output, query, udfs=["headrace.Parse"]))
        tables.append(DeltaTable(str(output)).to_pyarrow_table().sort_by("id"))
    first, second = (table.to_pylist() for table in tables)
    assert [math.isnan(found[0].pop("double")) for found in (first, second)] == [True, True]
    assert first == second
    assert {name: first[0][name] for name in right} == right
    assert {first[1][name] for name in right} == {None}
    assert [str(tables[0].schema.field(name).type) for name in ("byte", "short", "at", "local")] == [
        *("int8", "int16", "timestamp[us, tz=UTC]", "timestamp[us]")
    ]
    del right["list"]  # numbers in arrays become tensors, which have no place for a null
    loader = ShardLoader(tmp_path / "0", batch_size=2, columns=[*right], shuffle=False)
    batch = next(iter(loader))
    loaded = {name: values.tolist() if hasattr(values, "tolist") else values for name, values in batch.items()}
    assert {name: right[name] in loaded[name] for name in right} == dict.fromkeys(right, True)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("INTERVAL 1 DAY", "interval day"),
        ("INTERVAL 1 MONTH", "interval month"),
        ("make_interval(1)", "interval"),
        ("parse_json('1')", "variant"),
        ("NULL", "void"),
        ("array()", "array<void>"),
        ("map('a', array(named_struct('x', INTERVAL 1 DAY)))", "map<string,array<struct<x:interval day>>>"),
        ("named_struct('a', 1, 'A', 2)", "struct<a:int,A:int>"),
    ],
)
def test_a_type_that_delta_lacks_is_refused(spark, parquet, tmp_path: Path, value: str, found: str) -> None:
    with pytest.raises(RecipeError, match=f"^dataset.query: found column 'x' of type {found}, expected one that Delta"):
        build(spark, recipe(parquet([row(0)]), tmp_path / "out", f"SELECT id, image, {value} AS x FROM source"))
    assert not (tmp_path / "out").exists()


def test_shards_that_are_not_there_are_not_committed(output: str) -> None:
    reported = [File(f"shard-00000{number}-0123456789ab-0.parquet", 1, 3, "{}") for number in range(3)]
    for file, data in zip(reported, [b"abc", b"ab"], strict=False):
        put(output, file.path, data)
    check_files(output, reported[:1])
    with pytest.raises(DataError, match=r"found 2 of 3 shards missing .*\(shard-000001-.* is of 2 bytes\)"):
        check_files(output, reported)
    with pytest.raises(DataError, match=r"found 1 of 2 shards missing .*\(shard-000002-.* is missing\)"):
        check_files(output, reported[::2])


@pytest.fixture
def elsewhere(spark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose content Spark's Python workers do not see: they have a mount namespace of their own."""
    folder, python = tmp_path / "disk", tmp_path / "python"
    inside = f"mkdir -p {folder} && mount -t tmpfs none {folder} && mkdir -p {folder}/own"
    python.write_text(f'#!/bin/sh\nexec unshare -m sh -c \'{inside} && exec "$0" "$@"\' {sys.executable} "$@"\n')
    python.chmod(0o755)
    if subprocess.run([python, "-c", ""], capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespaces")
    monkeypatch.setattr(spark.sparkContext, "pythonExec", str(python))
    return folder


def test_a_folder_that_workers_do_not_share(spark, parquet, elsewhere: Path) -> None:
    source = parquet([row(i) for i in range(3)])
    with pytest.raises(
        DataError, match=r"dataset\.output\.path: found (\d) of \1 shards missing .*is missing\), expected all"
    ):
        build(spark, recipe(source, elsewhere / "own", QUERY))
    with pytest.raises(
        DataError, match=r"^dataset\.output\.path: found no folder .*/new' that a worker on .*or a URI$"
    ):
        build(spark, recipe(source, elsewhere / "new", QUERY))
    assert listed(str(elsewhere)) == set()


def test_a_dry_run_writes_nothing(spark, parquet, tmp_path: Path) -> None:
    source, output = parquet([row(i) for i in range(5)]), tmp_path / "out"
    summary = build(spark, recipe(source, output, QUERY + " WHERE id < 'id002'"), dry_run=True)
    assert not output.exists()
    assert summary.rows_in == 5
    assert summary.rows_named == 2
    assert summary.media_bytes == pytest.approx(sum(len(row(i)["image"]) for i in range(2)), rel=0.7)  # from the footer
    assert "Generate explode" in summary.plan


def test_a_dataset_in_an_object_store_comes_back(spark, parquet, uri: str) -> None:
    """Built, rebuilt, read by the loader, reported."""
    rows = [row(i) for i in range(6)]
    source = parquet(rows)
    made = recipe(source, uri, QUERY, shards={"target_bytes": 1024})
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
