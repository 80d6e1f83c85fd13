"""Planning from a Delta log and from plain folders."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from headrace.errors import DataError, RecipeError
from headrace.loading import ShardLoader
from headrace.loading.table.plan import plan
from tests.loading.shard_tables import commit, numbered


def test_the_log_alone_is_read(tmp_path: Path) -> None:
    path = commit(tmp_path / "t", numbered([4, 2, 3]))
    for file in path.glob("*.parquet"):
        file.unlink()
    planned = plan(str(path))
    assert planned.rows.tolist() == [4, 2, 3]
    assert len(ShardLoader(path, batch_size=3)) == 3


def test_an_older_version_stays_readable(tmp_path: Path) -> None:
    path = tmp_path / "t"
    for start in (0, 10):
        write_deltalake(str(path), pa.table({"sample_id": list(range(start, start + 5))}), mode="overwrite")

    def ids(version: int | None) -> list[int]:
        loader = ShardLoader(path, batch_size=5, version=version)
        return sorted(number for batch in loader for number in batch["sample_id"].tolist())

    assert ids(0) == list(range(5))
    assert ids(None) == ids(1) == list(range(10, 15))


def test_partition_columns_come_from_the_log(tmp_path: Path) -> None:
    languages = ["en", "zh hant", "a=b%", None]
    rows = pa.table({"sample_id": list(range(8)), "language": languages * 2})
    write_deltalake(str(tmp_path / "t"), rows, partition_by=["language"])
    found = {}
    for batch in ShardLoader(tmp_path / "t", batch_size=3, drop_last=False):
        found |= dict(zip(batch["sample_id"].tolist(), batch["language"], strict=True))
    assert found == dict(enumerate(languages * 2))


def test_where_keeps_the_files_of_a_partition(tmp_path: Path) -> None:
    rows = pa.table({"sample_id": list(range(12)), "split": ["train", "test", None] * 4, "year": [1, 2] * 6})
    write_deltalake(str(tmp_path / "t"), rows, partition_by=["split", "year"])

    def ids(where: dict) -> list[int]:
        loader = ShardLoader(tmp_path / "t", batch_size=4, where=where, drop_last=False)
        return sorted(number for batch in loader for number in batch["sample_id"].tolist())

    assert ids({"split": "train"}) == [0, 3, 6, 9]
    assert ids({"split": None}) == [2, 5, 8, 11]
    assert ids({"split": "test", "year": 2}) == [1, 7]
    assert ids({"year": "2"}) == ids({"year": 2}) == [1, 3, 5, 7, 9, 11]
    with pytest.raises(RecipeError, match=r"where: found 'nothing', expected a partition column of .* \(split, year\)"):
        ids({"nothing": 1})
    with pytest.raises(RecipeError, match=r"where: found split='dev', expected .*split='train'"):
        ids({"split": "dev"})
    with pytest.raises(RecipeError, match=r"where: found year='soon', expected .*year="):
        ids({"year": "soon"})
    state = ShardLoader(tmp_path / "t", batch_size=4, where={"split": "train"}).state_dict()
    with pytest.raises(RecipeError, match=r"where \(found \{\}, expected \{'split': 'train'\}\)"):
        ShardLoader(tmp_path / "t", batch_size=4).load_state_dict(state)


def test_empty_text_is_the_null_partition(tmp_path: Path) -> None:
    path = commit(tmp_path / "t", numbered([2, 3]))
    log = path / "_delta_log" / "00000000000000000000.json"
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    for action in actions:
        if "metaData" in action:
            schema = json.loads(action["metaData"]["schemaString"])
            schema["fields"].append({"name": "ds", "type": "string", "nullable": True, "metadata": {}})
            action["metaData"] |= {"schemaString": json.dumps(schema), "partitionColumns": ["ds"]}
        if "add" in action:
            action["add"]["partitionValues"] = {"ds": "" if action["add"]["path"].endswith("0.parquet") else "1"}
    log.write_text("\n".join(map(json.dumps, actions)))
    assert plan(str(path)).partitions.column("ds").to_pylist() == [None, "1"]
    assert plan(str(path), where={"ds": ""}).rows.tolist() == plan(str(path), where={"ds": None}).rows.tolist() == [2]


def test_a_column_added_later_is_null_in_older_files(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), pa.table({"sample_id": [0, 1]}))
    write_deltalake(
        str(tmp_path / "t"), pa.table({"sample_id": [2], "caption": ["c"]}), mode="append", schema_mode="merge"
    )
    found = {}
    for batch in ShardLoader(tmp_path / "t", batch_size=1):
        found |= dict(zip(batch["sample_id"].tolist(), batch["caption"], strict=True))
    assert found == {0: None, 1: None, 2: "c"}


def test_a_plain_folder_is_planned_from_footers(tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    (folder / "more").mkdir(parents=True)
    first, second = numbered([6, 4])
    pq.write_table(first, folder / "part-0.parquet", row_group_size=2)
    pq.write_table(second, folder / "more" / "part-1.parquet")
    (folder / "_SUCCESS").touch()
    (folder / "_temporary").mkdir()
    pq.write_table(second, folder / "_temporary" / "part-2.parquet")
    loader = ShardLoader(folder, batch_size=5)
    assert loader.version is None
    assert sorted(number for batch in loader for number in batch["sample_id"].tolist()) == list(range(10))
    with pytest.raises(DataError, match="found no Delta log, expected version 3"):
        ShardLoader(folder, batch_size=5, version=3)


def test_images_as_hugging_face_stores_them(tmp_path: Path) -> None:
    from tests.loading.shard_tables import png

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array([{"bytes": png(n), "path": None} for n in range(4)], kind)})
    (tmp_path / "hf").mkdir()
    pq.write_table(table, tmp_path / "hf" / "train.parquet")
    assert next(iter(ShardLoader(tmp_path / "hf", batch_size=4)))["image"].shape == (4, 3, 16, 16)


def test_an_empty_table_is_refused(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "t"), pa.table({"sample_id": pa.array([], pa.int64())}))
    with pytest.raises(DataError, match="found no rows"):
        ShardLoader(tmp_path / "t", batch_size=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"found no \.parquet file"):
        ShardLoader(tmp_path / "empty", batch_size=1)


def test_rows_that_a_delete_vector_hides_are_refused(tmp_path: Path) -> None:
    path = commit(tmp_path / "t", numbered([3]))
    log = path / "_delta_log" / "00000000000000000000.json"
    needs = {"minReaderVersion": 3, "minWriterVersion": 7}
    needs |= {"readerFeatures": ["deletionVectors"], "writerFeatures": ["deletionVectors"]}
    lines = [
        json.dumps({"protocol": needs}) if line.startswith('{"protocol"') else line
        for line in log.read_text().splitlines()
    ]
    log.write_text("\n".join(lines))
    assert DeltaTable(str(path)).protocol().reader_features == ["deletionVectors"]
    with pytest.raises(DataError, match="found Delta features deletionVectors"):
        ShardLoader(path, batch_size=1)


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(RecipeError, match="found the scheme 'nonsense'"):
        ShardLoader("nonsense://somewhere/t", batch_size=1)
