"""How columns of every type arrive in a batch."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from deltalake import Schema
from deltalake.transaction import AddAction, create_table_with_add_actions

from headrace.errors import DataError
from headrace.loading import ShardLoader

ROWS = 10


def folder_of(columns: dict[str, pa.Array], path: Path) -> Path:
    """A plain folder of two Parquet files."""
    path.mkdir()
    table = pa.table({"sample_id": pa.array(range(ROWS)), **columns})
    pq.write_table(table.slice(0, 7), path / "a.parquet")
    pq.write_table(table.slice(7), path / "b.parquet")
    return path


def column(path: Path, name: str) -> object:
    return next(iter(ShardLoader(path, batch_size=ROWS, shuffle=False)))[name]


fixed = np.random.default_rng(0).standard_normal((ROWS, 6)).astype(np.float32)
flat = pa.array(fixed.ravel())


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array(range(ROWS), pa.int16()), torch.arange(ROWS)),
        (pa.array(range(ROWS), pa.uint8()), torch.arange(ROWS)),
        (pa.array([n / 2 for n in range(ROWS)], pa.float32()), torch.arange(ROWS) / 2),
        (pa.array([n % 3 == 0 for n in range(ROWS)]), torch.arange(ROWS) % 3 == 0),
        (pa.FixedSizeListArray.from_arrays(flat, 6), torch.from_numpy(fixed)),
        (pa.ListArray.from_arrays(np.arange(0, 61, 6), flat), torch.from_numpy(fixed)),
        (
            pa.ExtensionArray.from_storage(
                pa.fixed_shape_tensor(pa.float32(), (2, 3)), pa.FixedSizeListArray.from_arrays(flat, 6)
            ),
            torch.from_numpy(fixed.reshape(ROWS, 2, 3)),
        ),
        (
            pa.array([bytes([n, n + 1]) for n in range(ROWS)], pa.binary(2)),
            torch.stack([torch.arange(ROWS), torch.arange(ROWS) + 1], 1).byte(),
        ),
    ],
    ids=["int16", "uint8", "float", "bool", "fixed-size list", "list", "tensor", "fixed-size binary"],
)
def test_numbers_become_tensors(values: pa.Array, expected: torch.Tensor, tmp_path: Path) -> None:
    found = column(folder_of({"x": values}, tmp_path / "t"), "x")
    assert isinstance(found, torch.Tensor)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([None, *map(str, range(ROWS - 1))]),
        pa.array([None, *map(str, range(ROWS - 1))]).dictionary_encode(),
        pa.array([None, *[bytes([n]) for n in range(ROWS - 1)]]),
        pa.array([None, *[{"kind": "edges", "n": n} for n in range(ROWS - 1)]]),
        pa.array([None, *[["a"] * n for n in range(ROWS - 1)]]),
    ],
    ids=["string", "dictionary", "binary", "struct", "list of strings"],
)
def test_other_values_become_lists(values: pa.Array, tmp_path: Path) -> None:
    assert column(folder_of({"x": values}, tmp_path / "t"), "x") == values.to_pylist()


def test_integers_with_nulls_bring_a_mask(tmp_path: Path) -> None:
    batch = next(
        iter(ShardLoader(folder_of({"x": pa.array([None, *range(1, ROWS)])}, tmp_path / "t"), batch_size=ROWS))
    )
    order = batch["sample_id"]
    assert torch.equal(batch["x"], order)
    assert torch.equal(batch["x_mask"], order > 0)


def test_floats_with_nulls_become_nan(tmp_path: Path) -> None:
    found = column(folder_of({"x": pa.array([None, *[1.0] * (ROWS - 1)])}, tmp_path / "t"), "x")
    assert isinstance(found, torch.Tensor)
    assert found.isnan().tolist() == [True] + [False] * (ROWS - 1)


def test_lists_of_several_lengths_are_refused(tmp_path: Path) -> None:
    path = folder_of({"x": pa.array([[1] * (n + 1) for n in range(ROWS)])}, tmp_path / "t")
    with pytest.raises(DataError, match=r"a\.parquet: column x: found lists of 1 to 7 numbers, expected one length"):
        column(path, "x")


def test_shuffled_rows_keep_together(tmp_path: Path) -> None:
    values = pa.FixedSizeListArray.from_arrays(pa.array(np.repeat(np.arange(ROWS), 4)), 4)
    loader = ShardLoader(folder_of({"x": values}, tmp_path / "t"), batch_size=4, window=2, lanes=2, drop_last=False)
    seen = []
    for batch in loader:
        assert torch.equal(batch["x"], batch["sample_id"][:, None].expand(-1, 4))
        seen += batch["sample_id"].tolist()
    assert sorted(seen) == list(range(ROWS))


@pytest.mark.parametrize("page", [1 << 20, 64])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_files_tell_what_the_log_of_a_table_cannot(tmp_path: Path, page: int, compression: str) -> None:
    values = np.random.default_rng(0).integers(0, 256, (40, 12), np.uint8)
    tensor = pa.fixed_shape_tensor(pa.float32(), (3, 4))
    floats = pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float32).ravel()), 12)
    table = pa.table(
        {
            "sample_id": pa.array(range(40)),
            "bytes": pa.FixedSizeBinaryArray.from_buffers(pa.binary(12), 40, [None, pa.py_buffer(values.tobytes())]),
            "tensor": pa.ExtensionArray.from_storage(tensor, floats),
        }
    )
    path = tmp_path / "t"
    path.mkdir()
    actions = []
    for number in range(2):
        file = path / f"{number}.parquet"
        part = table.slice(20 * number, 20)
        pq.write_table(
            part, file, compression=compression, use_dictionary=False, data_page_size=page, write_batch_size=5
        )
        stats = json.dumps({"numRecords": 20})
        actions.append(AddAction(file.name, file.stat().st_size, {}, 0, True, stats))
    kinds = {"sample_id": pa.int64(), "bytes": pa.binary(), "tensor": pa.list_(pa.float32())}
    schema = Schema.from_arrow(pa.schema(list(kinds.items())))
    create_table_with_add_actions(str(path), schema=schema, add_actions=actions, mode="error", partition_by=[])
    for batch in ShardLoader(path, batch_size=8):
        expected = torch.from_numpy(values[batch["sample_id"].numpy()])
        assert torch.equal(batch["bytes"], expected)
        assert torch.equal(batch["tensor"], expected.float().reshape(8, 3, 4))
