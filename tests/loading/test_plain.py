"""Plain folders of Parquet files: their schema and the partitions that folders name."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from headrace.errors import DataError
from headrace.loading import ShardLoader
from headrace.loading.table.plain import plain_table
from tests.loading.shard_tables import all_of


class Listed:
    """The local disk, whose folders list their files in another order."""

    def __init__(self, files: fs.FileSystem, backwards: bool) -> None:
        self._files, self._backwards = files, backwards

    def get_file_info(self, selector: fs.FileSelector) -> list[fs.FileInfo]:
        return sorted(self._files.get_file_info(selector), key=lambda info: info.path, reverse=self._backwards)

    def open_input_file(self, path: str) -> pa.NativeFile:
        return self._files.open_input_file(path)


def test_the_schema_of_a_folder_does_not_depend_on_how_it_is_listed(tmp_path: Path) -> None:
    must = pa.schema([pa.field("id", pa.int32(), nullable=False), pa.field("a", pa.int8(), nullable=False)])
    pq.write_table(pa.table({"id": [0], "a": [1]}, must), tmp_path / "1.parquet")
    pq.write_table(pa.table({"b": ["x"], "id": pa.array([1], pa.int64())}), tmp_path / "2.parquet")
    schemas = [plain_table(Listed(fs.LocalFileSystem(), each), str(tmp_path))[0] for each in (False, True)]
    expected = [pa.field("id", pa.int64()), pa.field("a", pa.int8()), pa.field("b", pa.string())]
    assert schemas == [pa.schema(expected)] * 2
    rows = all_of(tmp_path)
    assert (rows["id"], rows["a"], rows["a_mask"], rows["b"]) == ([0, 1], [1, 0], [True, False], [None, "x"])
    pq.write_table(pa.table({"id": ["one"]}), tmp_path / "3.parquet")
    with pytest.raises(DataError, match=r"3\.parquet: .*id.* expected types as in the other files"):
        ShardLoader(tmp_path, batch_size=1)


def test_folders_that_name_partitions_are_columns(tmp_path: Path) -> None:
    folders = ["ds=2026-01-01/hour=01", "ds=2026-01-02/hour=2", "ds=__HIVE_DEFAULT_PARTITION__/hour=3", "ds=a%2Fb c"]
    for number, folder in enumerate([*folders, "_part=1/ds=x", "_temporary"]):
        (tmp_path / folder).mkdir(parents=True)
        pq.write_table(pa.table({"id": [number]}), tmp_path / folder / "a.parquet")
    rows = all_of(tmp_path)
    order = [rows["id"].index(number) for number in range(5)]
    assert len(rows["id"]) == 5
    assert [rows["ds"][place] for place in order] == ["2026-01-01", "2026-01-02", None, "a/b c", "x"]
    assert [rows["hour"][place] for place in order] == [1, 2, 3, 0, 0]
    assert [rows["hour_mask"][place] for place in order] == [True] * 3 + [False] * 2
    assert all_of(tmp_path, where={"ds": "2026-01-01", "hour": "01"})["id"] == [0]
    assert all_of(tmp_path, where={"ds": None})["id"] == [2]
