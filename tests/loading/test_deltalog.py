"""The files of a version, as read from checkpoints, are those that deltalake lists."""

from __future__ import annotations

import shutil
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import fs

from headrace.loading.table.deltalog import Snapshot, _segment, by_deltalake, snapshot

steps = st.lists(
    st.sampled_from(["append", "append", "nulls", "overwrite", "delete", "checkpoint"]), min_size=1, max_size=7
)


def rows_of(files: Snapshot) -> list[tuple]:
    columns = [files.paths, files.sizes, files.rows, *(column.combine_chunks() for column in files.partitions.columns)]
    return sorted(zip(*(column.to_pylist() for column in columns), strict=True), key=repr)


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps, extra=st.booleans(), back=st.integers(0, 3))
def test_a_version_has_the_files_that_deltalake_lists(tmp_path: Path, steps: list[str], extra: bool, back: int) -> None:
    path = tmp_path / "t"
    shutil.rmtree(path, ignore_errors=True)
    keys = ["kind", "year"] if extra else []
    start = 0
    for step in ["append", *steps]:
        rows = pa.table(
            {
                "sample_id": pa.array([start, start + 1, None if step == "nulls" else start + 2]),
                "kind": ["a b", "ü%", None],
                "year": [1, 2, None],
            }
        )
        start += 3
        if step == "checkpoint":
            DeltaTable(str(path)).create_checkpoint()
        elif step == "delete":
            DeltaTable(str(path)).delete("sample_id % 2 = 0")
        else:
            write_deltalake(
                str(path), rows, mode="overwrite" if step == "overwrite" else "append", partition_by=keys or None
            )
    version = max(0, DeltaTable(str(path)).version() - back) if back else None
    found, expected = (
        snapshot(fs.LocalFileSystem(), str(path), str(path), version, None),
        by_deltalake(str(path), version, None),
    )
    assert rows_of(found) == rows_of(expected)
    assert (found.version, found.schema) == (expected.version, expected.schema)
    assert found.partitions.schema.types == expected.partitions.schema.types


@pytest.mark.parametrize(
    ("names", "version", "found"),
    [
        (["0.json", "1.json"], 1, ([], ["0.json", "1.json"])),
        (["1.json"], 1, None),
        (["0.json"], 1, None),
        ([], None, None),
        (["0.json", "1.checkpoint.parquet", "1.json", "2.json"], 2, (["1.checkpoint.parquet"], ["2.json"])),
        (["1.checkpoint.parquet", "2.json", "3.json"], 1, (["1.checkpoint.parquet"], [])),
        (["1.checkpoint.parquet", "3.json"], 3, None),
        (["1.checkpoint.parquet", "2.checkpoint.8a3f.parquet", "2.json"], 2, None),
        (["2.checkpoint.1.2.parquet"], 2, None),
        (["2.checkpoint.2.2.parquet", "2.checkpoint.1.2.parquet"], 2, ([1, 2], [])),
    ],
)
def test_which_checkpoint_and_commits_make_a_version(
    names: list[str], version: int | None, found: tuple | None
) -> None:
    def padded(name: str) -> str:
        head, *rest = name.split(".")
        return ".".join([head.zfill(20), *(part.zfill(10) if part.isdigit() else part for part in rest)])

    segment = _segment([f"t/_delta_log/{padded(name)}" for name in names], version)
    if found is None:
        assert segment is None
        return
    assert segment is not None
    number, parts, commits = segment
    assert number == version
    if found[0] == [1, 2]:
        assert [path.split(".")[2] for path in parts] == ["0000000001", "0000000002"]
    else:
        assert parts == [f"t/_delta_log/{padded(name)}" for name in found[0]]
    assert commits == [f"t/_delta_log/{padded(name)}" for name in found[1]]
