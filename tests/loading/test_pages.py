"""Values found in place are those that pyarrow decodes, however pyarrow wrote them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.loading.shard.pages import NotInPlace, byte_arrays, fixed_width

some = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
values = st.lists(st.none() | st.binary(max_size=40), max_size=60)


def found_in(path: Path, column: str) -> list[bytes | None]:
    file = os.open(path, os.O_RDONLY)
    try:
        where = byte_arrays(file, pq.read_metadata(path), column)
        every = [
            os.pread(file, size, at) for at, size in zip(where.offsets.tolist(), where.lengths.tolist(), strict=True)
        ]
    finally:
        os.close(file)
    return [None if number < 0 else every[number] for number in where.value_of_row.tolist()]


@some
@given(
    values=values,
    dictionary=st.booleans(),
    version=st.sampled_from(["1.0", "2.0"]),
    nullable=st.booleans(),
    page=st.sampled_from([1, 100, 1 << 20]),
    limit=st.sampled_from([1, 64, 1 << 20]),
    groups=st.sampled_from([7, 1000]),
)
def test_byte_arrays_are_those_of_pyarrow(
    tmp_path: Path,
    values: list[bytes | None],
    dictionary: bool,
    version: str,
    nullable: bool,
    page: int,
    limit: int,
    groups: int,
) -> None:
    if not nullable:
        values = [value or b"" for value in values]
    schema = pa.schema([pa.field("x", pa.binary(), nullable=nullable)])
    pq.write_table(
        pa.table([pa.array(values, pa.binary())], schema=schema),
        tmp_path / "a.parquet",
        compression="none",
        use_dictionary=dictionary,
        data_page_version=version,
        data_page_size=page,
        write_batch_size=3,
        dictionary_pagesize_limit=limit,
        row_group_size=groups,
    )
    assert found_in(tmp_path / "a.parquet", "x") == values


@some
@given(count=st.integers(0, 5000), distinct=st.integers(1, 700))
def test_long_runs_of_indices(tmp_path: Path, count: int, distinct: int) -> None:
    rng = np.random.default_rng(count)
    values = [
        b"%d" % number for number in np.repeat(rng.integers(0, distinct, count), rng.integers(1, 30, count))[:count]
    ]
    pq.write_table(pa.table({"x": pa.array(values, pa.binary())}), tmp_path / "a.parquet", compression="none")
    assert found_in(tmp_path / "a.parquet", "x") == values


def test_a_leaf_of_a_struct(tmp_path: Path) -> None:
    rows = [{"bytes": b"a", "path": "p"}, None, {"bytes": None, "path": "q"}, {"bytes": b"", "path": None}]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"x": pa.array(rows, kind)}), tmp_path / "a.parquet", compression="none")
    assert found_in(tmp_path / "a.parquet", "x.bytes") == [b"a", None, None, b""]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_fixed_width_values_lie_in_runs(tmp_path: Path, version: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5000, 12), np.uint8)
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(12), 5000, [None, pa.py_buffer(values.tobytes())])
    path = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"x": column}),
        path,
        compression="none",
        use_dictionary=False,
        data_page_size=4096,
        row_group_size=2000,
        data_page_version=version,
    )
    data = path.read_bytes()
    file = os.open(path, os.O_RDONLY)
    runs = fixed_width(file, pq.read_metadata(path), "x")
    os.close(file)
    assert len(runs) > 3
    assert b"".join(data[at : at + count * 12] for at, count in runs) == values.tobytes()


@pytest.mark.parametrize(
    ("column", "settings"),
    [
        (pa.array([b"a"] * 9), {"compression": "snappy"}),
        (
            pa.array([b"a", b"b"]),
            {"compression": "none", "use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"},
        ),
        (pa.array([[b"a"], []]), {"compression": "none"}),
        (pa.array([1, 2]), {"compression": "none"}),
    ],
    ids=["compressed", "delta", "list", "integer"],
)
def test_pages_that_must_be_decoded_whole_are_refused(tmp_path: Path, column: pa.Array, settings: dict) -> None:
    pq.write_table(pa.table({"x": column}), tmp_path / "a.parquet", **settings)
    path = pq.read_metadata(tmp_path / "a.parquet").schema.column(0).path
    with pytest.raises(NotInPlace, match="^encoding 7$" if settings.get("column_encoding") else f"^{path}$"):
        found_in(tmp_path / "a.parquet", path)


def test_a_damaged_page_is_never_read_beyond_its_end(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"x": pa.array([b"abc"] * 9)}), tmp_path / "a.parquet", compression="none", use_dictionary=False
    )
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    at = data.index(b"\x03\x00\x00\x00abc")
    data[at : at + 4] = b"\xff\xff\xff\x7f"
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(NotInPlace, match="longer than its page"):
        found_in(tmp_path / "a.parquet", "x")
