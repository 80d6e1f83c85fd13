"""Tables of other writers: what the protocol allows is read rightly, and of all else one line says what is wrong."""

from __future__ import annotations

import copy
import datetime
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from headrace.errors import DataError, RecipeError
from headrace.loading import ShardLoader
from headrace.loading.table import deltalog
from headrace.loading.table.adds import VALUES
from headrace.loading.table.plan import Plan, plan
from tests.loading.shard_tables import all_of, commit, numbered

Line = dict[str, Any]
UTC = datetime.UTC


def log_of(path: Path, version: int = 0) -> Path:
    return path / "_delta_log" / f"{version:020d}.json"


def edit(path: Path, change: Callable[[Line], None]) -> None:
    """Change every line of the first commit."""
    lines = [json.loads(line) for line in log_of(path).read_text().splitlines()]
    for line in lines:
        change(line)
    log_of(path).write_text("\n".join(map(json.dumps, lines)))


@pytest.fixture(params=["here", "deltalake"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to read a log."""
    if request.param == "deltalake":
        monkeypatch.setattr(deltalog, "_COMMIT_BYTES", -1)


@pytest.mark.usefixtures("reader")
@pytest.mark.parametrize(
    ("protocol", "configuration", "named"),
    [
        ({"minReaderVersion": 2}, {}, None),
        ({"minReaderVersion": 3, "readerFeatures": ["timestampNtz", "columnMapping", "v2Checkpoint"]}, {}, None),
        ({"minReaderVersion": 2}, {"delta.columnMapping.mode": "name"}, "[cC]olumn ?[mM]apping"),
        ({"minReaderVersion": 3, "readerFeatures": ["deletionVectors"]}, {}, "deletionVectors"),
        ({"minReaderVersion": 3, "readerFeatures": ["somethingNew"]}, {}, "somethingNew"),
    ],
)
def test_only_what_is_known_is_read(tmp_path: Path, protocol: Line, configuration: dict, named: str | None) -> None:
    path = commit(tmp_path / "t", numbered([3]))
    writers = {"writerFeatures": protocol["readerFeatures"]} if "readerFeatures" in protocol else {}

    def change(line: Line) -> None:
        if "protocol" in line:
            line["protocol"] = {"minWriterVersion": 7 if writers else 5, **protocol, **writers}
        if "metaData" in line:
            line["metaData"]["configuration"] = configuration

    edit(path, change)
    if named is None:
        assert all_of(path)["sample_id"] == [0, 1, 2]
        return
    with pytest.raises(DataError, match=named):
        ShardLoader(path, batch_size=1)


def test_a_deletion_vector_is_refused_even_if_the_protocol_does_not_say_so(tmp_path: Path) -> None:
    path = commit(tmp_path / "t", numbered([3]))
    edit(path, lambda line: line.get("add", {}).update(deletionVector={"storageType": "i"}))
    with pytest.raises(DataError, match="found a file with a deletion vector"):
        ShardLoader(path, batch_size=1)


def test_a_column_that_older_files_lack_is_null_in_them(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_deltalake(str(path), pa.table({"sample_id": [0, 1]}))
    later = {
        "number": pa.array([7], pa.int32()),
        "yes": [True],
        "real": [1.5],
        "numbers": pa.array([[1, 2]], pa.list_(pa.int64())),
        "vector": pa.array([[0.5, 2.0]], pa.list_(pa.float32(), 2)),
        "code": pa.array([b"ab"], pa.binary(2)),
    }
    write_deltalake(str(path), pa.table({"sample_id": [2], **later}), mode="append", schema_mode="merge")
    rows = all_of(path)
    assert set(rows) == {"sample_id", *later, "_position"} | {
        f"{n}_mask" for n in ("sample_id", *later) if n != "real"
    } - {"code_mask"}
    place = rows["sample_id"].index(2)
    for name, value, null in (("number", 7, 0), ("yes", True, False), ("numbers", [1, 2], [0, 0])):
        assert [rows[name][n] for n in (place, place - 1)] == [value, null]
        assert rows[f"{name}_mask"] == [n == 2 for n in rows["sample_id"]]
    assert [value == value for value in rows["real"]] == [n == 2 for n in rows["sample_id"]]


def test_nulls_without_statistics_have_masks(tmp_path: Path) -> None:
    tensor = pa.fixed_shape_tensor(pa.float32(), (2, 2))
    table = pa.table(
        {
            "id": [0, None],
            "yes": [None, True],
            "list": pa.array([[0.5, 1.5], None]),
            "fixed": pa.array([None, [1, 2]], pa.list_(pa.int32(), 2)),
            "code": pa.array([b"ab", None], pa.binary(2)),
            "tensor": pa.ExtensionArray.from_storage(tensor, pa.array([[1, 2, 3, 4], None], pa.list_(pa.float32(), 4))),
        }
    )
    settings = {"use_dictionary": False, "compression": "none", "write_statistics": False}
    pq.write_table(table.slice(0, 0), tmp_path / "a.parquet", **settings)
    pq.write_table(pa.table({"id": pa.array([None], pa.int64())}), tmp_path / "b.parquet", **settings)
    pq.write_table(table, tmp_path / "c.parquet", **settings)
    pq.write_table(table.take([0]), tmp_path / "d.parquet", **settings)  # the bytes of `code` are used in place
    expected = {
        "id": [0, 0, 0, 0],
        "yes": [False, False, True, False],
        "list": [[0, 0], [0.5, 1.5], [0, 0], [0.5, 1.5]],
        "fixed": [[0, 0], [0, 0], [1, 2], [0, 0]],
        "code": [[0, 0], [97, 98], [0, 0], [97, 98]],
        "tensor": [[[0, 0], [0, 0]], [[1, 2], [3, 4]], [[0, 0], [0, 0]], [[1, 2], [3, 4]]],
    }
    first = [False, True, False, True]
    masks = {"yes": [False, False, True, False], "fixed": [False, False, True, False]}
    expected |= {f"{name}_mask": masks.get(name, first) for name in list(expected)}
    assert all_of(tmp_path) == {**expected, "_position": [0, 1, 2, 3]}


def test_the_shape_of_lists_comes_from_any_file_that_can_be_read(tmp_path: Path) -> None:
    kind = pa.list_(pa.float32())
    for name, values in (("a", [None]), ("b", [None]), ("c", [[1, 2, 3]])):
        pq.write_table(pa.table({"x": pa.array(values, kind)}), tmp_path / f"{name}.parquet")
    loader = ShardLoader(tmp_path, batch_size=1, shuffle=False, on_bad_sample="skip", epochs=1)
    (tmp_path / "b.parquet").write_bytes(b"damaged")
    first = next(iter(loader))
    assert (first["x"].tolist(), first["x_mask"].tolist()) == ([[0, 0, 0]], [False])
    (tmp_path / "c.parquet").unlink()
    (tmp_path / "b.parquet").unlink()
    assert next(iter(ShardLoader(tmp_path, batch_size=1)))["x"].shape == (1, 0)


def test_nulls_against_the_schema_are_refused(tmp_path: Path) -> None:
    path = commit(tmp_path / "t", [pa.table({"id": pa.array([1, None])})])
    edit(
        path,
        lambda line: line.get("metaData", {}).update(
            schemaString='{"type":"struct","fields":[{"name":"id","type":"long","nullable":false,"metadata":{}}]}'
        ),
    )
    with pytest.raises(DataError, match="column id: found 1 nulls, expected none, as the schema says"):
        all_of(path)


def test_partitions_of_times_in_a_zone(tmp_path: Path) -> None:
    path = tmp_path / "t"
    times = [datetime.datetime(2026, 1, 2, 3, 4, 5, 678900, UTC), datetime.datetime(2026, 1, 2, tzinfo=UTC), None]
    kind = pa.timestamp("us", "UTC")
    write_deltalake(str(path), pa.table({"id": [0, 1, 2], "at": pa.array(times, kind)}), partition_by=["at"])
    iso = {"2026-01-02 00:00:00.000000": "2026-01-02T00:00:00.000000Z"}

    def change(line: Line) -> None:
        if values := line.get("add", {}).get("partitionValues"):
            values["at"] = iso.get(values["at"], values["at"])

    edit(path, change)
    for _ in ("commit", "checkpoint"):
        rows = all_of(path)
        assert dict(zip(rows["id"], rows["at"], strict=True)) == dict(enumerate(times))
        for value in (times[1], "2026-01-02 00:00:00", "2026-01-02T01:00:00+01:00"):
            assert all_of(path, where={"at": value})["id"] == [1]
        DeltaTable(str(path)).create_checkpoint()


STATS = [
    "",
    "{",
    "[]",
    '{"minValues":{"numRecords":9},"numRecords":2}',
    '{"numRecords":2,"minValues":{"id":NaN},"maxValues":{"id":"NaN"}}',
    '{"minValues":{"id":NaN,"x":[]},"numRecords":2}',
    ' { "numRecords" : 2 }',
    '{"numRecords":null}',
    '{"numRecords":"2"}',
    '{"a":' * 9000 + "1" + "}" * 9000,
]


def test_of_statistics_only_the_number_of_rows_is_read(tmp_path: Path) -> None:
    path = commit(tmp_path / "t", numbered([2] * len(STATS)))
    left = iter(STATS)

    def change(line: Line) -> None:
        if "add" in line:
            line["add"]["stats"] = next(left)

    edit(path, change)
    assert all_of(path)["sample_id"] == list(range(2 * len(STATS)))


@pytest.mark.parametrize("told", [-1, 0, 1 << 31, 1 << 62, 1 << 70])
def test_a_number_of_rows_that_cannot_be_is_compared_with_the_footer(tmp_path: Path, told: int) -> None:
    path = commit(tmp_path / "t", numbered([2]))
    edit(path, lambda line: line.get("add", {}).update(stats=json.dumps({"numRecords": told})))
    with pytest.raises(DataError, match=r"part-00000.parquet: found 2 rows, expected .* as version 0 says"):
        ShardLoader(path, batch_size=1)


def test_a_checkpoint_without_statistics_as_text(tmp_path: Path) -> None:
    path = tmp_path / "t"
    options = {"delta.checkpoint.writeStatsAsJson": "false", "delta.checkpoint.writeStatsAsStruct": "true"}
    write_deltalake(str(path), pa.table({"sample_id": [0, 1, 2]}), configuration=options)
    DeltaTable(str(path)).create_checkpoint()
    checkpoint = log_of(path).with_suffix(".checkpoint.parquet")
    table = pq.read_table(checkpoint)
    assert table.schema.field("add").type.get_field_index("stats") < 0
    log_of(path).unlink()
    (file,) = path.glob("*.parquet")
    file.rename(tmp_path / file.name)
    assert plan(str(path)).rows.tolist() == [3], "the log alone tells"
    (tmp_path / file.name).rename(file)
    kept = [one for one in table.schema.field("add").type if one.name != "stats_parsed"]
    adds = [row and {one.name: row[one.name] for one in kept} for row in table["add"].to_pylist()]
    table = table.set_column(table.schema.get_field_index("add"), "add", pa.array(adds, pa.struct(kept)))
    pq.write_table(table, checkpoint)
    assert plan(str(path)).rows.tolist() == [3]


def values_in(line: Line, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in line.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from values_in(value, (*path, key))


def plan_or_error(path: Path) -> Plan | str:
    try:
        return plan(str(path))
    except (DataError, RecipeError) as error:
        return str(error)


@pytest.mark.usefixtures("reader")
def test_a_log_with_a_field_missing_or_wrong_is_one_line_or_read_rightly(tmp_path: Path) -> None:
    path = tmp_path / "t"
    write_deltalake(str(path), pa.table({"id": [1, 2], "k": ["a", None]}), partition_by=["k"])
    lines = [json.loads(line) for line in log_of(path).read_text().splitlines()]
    found = 0
    for number, line in enumerate(lines):
        for keys in () if "commitInfo" in line else values_in(line):
            for wrong in (..., None, 0, -1, 1 << 64, 1.5, "", "x" * 9999, True, [1], {"a": {"a": 1}}):
                changed = copy.deepcopy(lines)
                inside = changed[number]
                for key in keys[:-1]:
                    inside = inside[key]
                if wrong is ...:
                    del inside[keys[-1]]
                else:
                    inside[keys[-1]] = wrong
                log_of(path).write_text("\n".join(map(json.dumps, changed)))
                planned = plan_or_error(path)
                if isinstance(planned, str):
                    assert len(planned.splitlines()) == 1, (keys, wrong, planned)
                    assert len(planned) < 1000
                    found += 1
                elif keys != ("add",) and keys[-1] not in ("path", "size", "k"):
                    assert planned.rows.tolist() == [1, 1], (keys, wrong)
    assert found > 150


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"add":{"size":0,"path":"a.parquet","partitionValues":{}}}', "line 1: add.size: found 0, expected greater"),
        ('{"add":{"size":9,"partitionValues":{}}}', "line 1: add.path: found nothing, expected"),
        ('{"add":{"path":7,"size":9,"partitionValues":{}}}', "line 1: add.path: found 7, expected a valid string"),
        ('{"add":' + "[" * 100_000, "line 1: found text that cannot be read as JSON"),
        ('{"metaData":{"schemaString":"[","partitionColumns":[]}}', "metaData.schemaString: found no schema"),
        ("[]", "line 1: action: found \\[\\], expected an object"),
    ],
)
def test_what_is_wrong_with_a_log_is_named(tmp_path: Path, text: str, named: str) -> None:
    path = commit(tmp_path / "t", numbered([3]))
    log_of(path, 1).write_text(text)
    with pytest.raises(DataError, match=named):
        ShardLoader(path, batch_size=1)


@pytest.mark.parametrize(
    ("field", "value", "kind", "named"),
    [
        *((f"add.{name}", None, None, name) for name in ("path", "size", "partitionValues")),
        *((f"add.{name}", [1], pa.list_(pa.int64()), name) for name in ("path", "size", "partitionValues")),
        ("add.size", 0, pa.int64(), "found size 0, expected 1 to"),
        ("add.partitionValues", [("other", "a")], VALUES, "found no value of the partition column k"),
        ("protocol.minReaderVersion", None, None, "protocol.minReaderVersion: found nothing"),
        ("metaData.schemaString", 5, pa.int64(), "metaData.schemaString: found 5, expected a valid string"),
        ("metaData.partitionColumns", None, None, "metaData.partitionColumns: found nothing"),
        ("metaData.configuration", [("delta.columnMapping.mode", "name")], VALUES, "mode = name"),
    ],
)
def test_a_checkpoint_with_a_field_wrong(tmp_path: Path, field: str, value: Any, kind: Any, named: str) -> None:
    path = tmp_path / "t"
    write_deltalake(str(path), pa.table({"id": [1, 2], "k": ["a", None]}), partition_by=["k"])
    DeltaTable(str(path)).create_checkpoint()
    log_of(path).unlink()
    checkpoint = log_of(path).with_suffix(".checkpoint.parquet")
    table = pq.read_table(checkpoint, columns=["add", "protocol", "metaData"])
    action, _, name = field.partition(".")
    rows = table[action].to_pylist()
    for row in (row for row in rows if row is not None):
        row[name] = value
    types = {one.name: one.type for one in table.schema.field(action).type} | {name: kind or pa.string()}
    column = pa.array(rows, pa.struct(list(types.items())))
    pq.write_table(table.set_column(table.schema.get_field_index(action), action, column), checkpoint)
    problem = plan_or_error(path)
    assert isinstance(problem, str)
    assert named in problem
    assert len(problem.splitlines()) == 1


@pytest.mark.parametrize("where", ["commit", "sidecar", "shard", "plain"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, where: str) -> None:
    path = commit(tmp_path / "t", numbered([3]))
    pipe = {"commit": log_of(path, 1), "sidecar": path / "_delta_log" / "_sidecars" / "a.parquet"}.get(where)
    if pipe is None:
        pipe = path / "part-00000.parquet"
        pipe.unlink()
    if where == "plain":
        log_of(path).unlink()
        log_of(path).parent.rmdir()
    pipe.parent.mkdir(exist_ok=True)
    os.mkfifo(pipe)
    with pytest.raises(DataError, match=f"{pipe.name}.* (no regular file|neither a file nor a folder)"):
        all_of(path)


@pytest.mark.usefixtures("reader")
def test_files_elsewhere_are_opened_as_what_they_say_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = commit(tmp_path / "t", numbered([2]))
    outside = tmp_path / "out side.parquet"
    (path / "part-00000.parquet").rename(outside)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bucket").mkdir()
    pq.write_table(numbered([2])[0], "bucket/a.parquet")

    def name(stored: str) -> None:
        edit(path, lambda line: line.get("add", {}).update(path=stored))

    encoded = str(outside).replace(" ", "%20")
    for stored in (encoded, f"file://{encoded}", f"file:{encoded}"):
        name(stored)
        assert all_of(path)["sample_id"] == [0, 1]
    for stored in ("../out%20side.parquet", "%2e%2e/out%20side.parquet", "x/../../out%20side.parquet"):
        name(stored)
        with pytest.raises(DataError, match="expected one inside the table"):
            ShardLoader(path, batch_size=1)
    for stored in ("s3://bucket/a.parquet", "gs://bucket/a.parquet", "hdfs:/bucket/a.parquet"):
        name(stored)
        with pytest.raises(DataError, match=f"found the file {stored} in the log, expected files in the file system"):
            ShardLoader(path, batch_size=1)
