"""The columns of a shard in memory, and how values get into a batch: numbers as whole buffers, the rest as objects."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import prod
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch

from headrace.errors import DataError
from headrace.loading.shard.memory import Memory
from headrace.loading.shard.pages import LocalFile

_WIDE = {pa.binary(): pa.large_binary(), pa.string(): pa.large_string()}
_NARROW = (1 << 31) - 1
"""the most bytes of values that an array with offsets of 32 bits has"""

_MEASURED = 256
"""how many strings of a shard are measured, to tell what all of them take"""

Rows = np.ndarray
"""row numbers in a shard, int64"""
Dest = slice | np.ndarray
"""places in a batch"""


class Runs:
    """Rows of `width` bytes that are used in place in a file, where they form runs (offset, count)."""

    def __init__(self, file: LocalFile, runs: list[tuple[int, int]], width: int) -> None:
        mapped = file.mapped()
        self._file = file
        self._runs = [mapped[at : at + count * width].reshape(count, width) for at, count in runs]
        self._starts = np.cumsum([0, *(count for _, count in runs[:-1])])

    def values(self) -> np.ndarray | Runs:
        """The rows: a uint8 array rows×width if they are one run, else this object."""
        return self._runs[0] if len(self._runs) == 1 else self

    def gather(self, rows: Rows, room: np.ndarray, dest: Dest) -> None:
        """Copy the rows of these numbers to `dest` of `room`, N×width."""
        which = np.searchsorted(self._starts, rows, "right") - 1
        places = np.arange(len(room))[dest]
        for number, run in enumerate(self._runs):
            mine = np.flatnonzero(which == number)
            _copy_rows(run, rows[mine] - self._starts[number], room, places[mine])


def _copy_rows(values: np.ndarray, rows: Rows, room: np.ndarray, dest: Dest) -> None:
    """room[dest] = values[rows] for C-contiguous arrays; each row is copied as one record."""
    record = np.dtype((np.void, room[0].nbytes))
    room.reshape(len(room), -1).view(record)[dest, 0] = values.reshape(len(values), -1).view(record)[:, 0].take(rows)


class Kind(Protocol):
    """How the values of a column are stored and gathered, the same for every shard."""

    def load(self, column: pa.ChunkedArray, where: str) -> Any:
        """A shard's values in the form that `gather` takes. `where` names file and column in errors (DataError)."""

    def allocate(self, count: int, memory: Memory) -> Any:
        """Room for `count` values of a batch."""

    def gather(self, values: Any, rows: Rows, room: Any, dest: Dest) -> None:
        """Copy `rows` of a shard's values to places `dest` of a batch."""

    def finish(self, room: Any) -> Any:
        """The finished value of the batch: a tensor or a list."""

    def nbytes(self, values: Any) -> int:
        """About how many bytes a shard's values take."""

    def expected(self, rows: int, values: int, nbytes: int) -> int:
        """The same before they are read, for `rows` rows whose column has `values` values of `nbytes` bytes in all."""


@dataclass
class Numbers:
    """A number, or an array of numbers of fixed shape, in each row → a tensor N×shape."""

    dtype: np.dtype
    shape: tuple[int, ...] | None
    """shape of one value; None until the first shard is loaded, which fixes the length of lists"""
    nullable: bool = False
    """whether rows may be null: zeros then, which a mask marks; a null among numbers with a NaN is NaN in any case"""
    of_bytes: bool = False
    """whether a value is one of fixed-size binary, which is used in place where that is possible"""

    @property
    def has_nan(self) -> bool:
        """Whether a null can be stored as NaN: where a row is one floating-point number."""
        return self.shape == () and self.dtype.kind == "f"

    def load(self, column: pa.ChunkedArray, where: str) -> np.ndarray:
        """The values as an array rows×shape, a view of Arrow's buffer if the types allow it."""
        if not column.null_count or self.has_nan:
            return self._load(column, where)
        if not self.nullable:
            raise DataError(f"{where}: found {column.null_count} nulls, expected none, as the schema says")
        there = column.is_valid()
        found = self._load(column.filter(there), where)
        values = np.zeros((len(column), *found.shape[1:]), self.dtype)
        values[there.to_numpy()] = found
        return values

    def _load(self, column: pa.ChunkedArray, where: str) -> np.ndarray:
        if not len(column):
            return np.zeros((0, *(self.shape or ())), self.dtype)
        values, shape = _flat(column, where)
        if self.shape is None:
            self.shape = shape
        if shape != self.shape:
            raise DataError(
                f"{where}: found arrays of {_times(shape)}, expected {_times(self.shape)} as in other shards"
            )
        return values.astype(self.dtype, copy=False).reshape(len(column), *shape)

    def allocate(self, count: int, memory: Memory) -> np.ndarray:
        return memory.empty((count, *(self.shape or ())), self.dtype)

    def gather(self, values: np.ndarray | Runs, rows: Rows, room: np.ndarray, dest: Dest) -> None:
        if isinstance(values, Runs):
            values.gather(rows, room, dest)
        elif room.ndim > 1 and room.size and values.flags.c_contiguous:
            _copy_rows(values, rows, room, dest)
        else:
            room[dest] = values.take(rows, axis=0)

    def finish(self, room: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(room)

    def nbytes(self, values: np.ndarray) -> int:
        return values.nbytes

    def expected(self, rows: int, values: int, nbytes: int) -> int:
        numbers = values if self.shape is None else rows * prod(self.shape)
        return numbers * self.dtype.itemsize


@dataclass(frozen=True)
class Words:
    """Strings, of which many are equal: the distinct ones, and the number of each row's."""

    words: np.ndarray
    word_of_row: np.ndarray


class Text:
    """Strings → a list, None where null."""

    def load(self, column: pa.ChunkedArray, where: str) -> np.ndarray | Words:
        """The values as an array of str | None; as Words if the file has a dictionary of them."""
        array = one_array(column.unify_dictionaries())
        if not isinstance(array, pa.DictionaryArray):
            return array.to_numpy(zero_copy_only=False).astype(object, copy=False)
        words = np.array([*array.dictionary.to_pylist(), None], object)
        return Words(words, array.indices.fill_null(len(words) - 1).to_numpy())

    def allocate(self, count: int, memory: Memory) -> np.ndarray:
        return np.empty(count, object)

    def gather(self, values: np.ndarray | Words, rows: Rows, room: np.ndarray, dest: Dest) -> None:
        if isinstance(values, Words):
            room[dest] = values.words.take(values.word_of_row.take(rows))
        else:
            room[dest] = values.take(rows)

    def finish(self, room: np.ndarray) -> list[Any]:
        return room.tolist()

    def nbytes(self, values: np.ndarray | Words) -> int:
        if isinstance(values, Words):
            return self.nbytes(values.words) + values.word_of_row.nbytes
        some = values[:: max(1, len(values) // _MEASURED)].tolist()
        return values.nbytes + sum(map(sys.getsizeof, some)) * len(values) // max(1, len(some))

    def expected(self, rows: int, values: int, nbytes: int) -> int:
        return nbytes + rows * (8 + sys.getsizeof(""))


class Objects:
    """Bytes and other values without a tensor form → a list, None where null. They stay in Arrow's form until used."""

    def load(self, column: pa.ChunkedArray, where: str) -> pa.Array:
        """The values as one Arrow array."""
        return one_array(column.unify_dictionaries())

    def allocate(self, count: int, memory: Memory) -> np.ndarray:
        return np.empty(count, object)

    def gather(self, values: pa.Array, rows: Rows, room: np.ndarray, dest: Dest) -> None:
        taken = np.empty(len(rows), object)
        taken[:] = values.take(pa.array(rows)).to_pylist()
        room[dest] = taken

    def finish(self, room: np.ndarray) -> list[Any]:
        return room.tolist()

    def nbytes(self, values: pa.Array) -> int:
        return values.nbytes

    def expected(self, rows: int, values: int, nbytes: int) -> int:
        return nbytes + 8 * rows


class Validity:
    """Whether a column has a value → a bool tensor N, False where null."""

    def load(self, column: pa.ChunkedArray, where: str) -> np.ndarray:
        """A bool for each row."""
        return column.is_valid().to_numpy()

    def allocate(self, count: int, memory: Memory) -> np.ndarray:
        return np.empty(count, bool)

    def gather(self, values: np.ndarray, rows: Rows, room: np.ndarray, dest: Dest) -> None:
        room[dest] = values.take(rows)

    def finish(self, room: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(room)

    def nbytes(self, values: np.ndarray) -> int:
        return values.nbytes

    def expected(self, rows: int, values: int, nbytes: int) -> int:
        return rows


@dataclass(frozen=True)
class Field:
    """One key of a batch: it holds the values of `column`, gathered by `kind`."""

    column: str
    kind: Kind


def null_at(room: Any, where: np.ndarray) -> None:
    """Set values of a batch to None if they are in a list; tensors keep their values."""
    if isinstance(room, np.ndarray) and room.dtype == object:
        room[where] = None


def fields_of(column: pa.Field) -> dict[str, Field]:
    """The batch keys of a column that is not decoded.

    `<column>_mask` is added if the schema lets it be null and its tensor cannot show that.
    """
    kind = kind_of(column)
    fields = {column.name: Field(column.name, kind)}
    if column.nullable and isinstance(kind, Numbers) and not kind.has_nan:
        kind.nullable = True
        fields[f"{column.name}_mask"] = Field(column.name, Validity())
    return fields


def kind_of(field: pa.Field) -> Kind:
    """How the values of a column that is not decoded get into a batch."""
    kind = field.type.storage_type if isinstance(field.type, pa.BaseExtensionType) else field.type
    if pa.types.is_integer(kind):
        return Numbers(np.dtype(np.int64), ())
    if pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        return Numbers(np.dtype(kind.to_pandas_dtype()), ())
    if pa.types.is_fixed_size_binary(kind):
        return Numbers(np.dtype(np.uint8), (kind.byte_width,), of_bytes=True)
    inner = kind
    while _is_list(inner):
        inner = inner.value_type
    if inner is not kind and (pa.types.is_integer(inner) or pa.types.is_floating(inner)):
        return Numbers(np.dtype(inner.to_pandas_dtype()), None)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return Text()
    return Objects()


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes, in any of Arrow's forms."""
    return any(
        is_one(kind)
        for is_one in (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    )


def is_text_or_bytes(kind: pa.DataType) -> bool:
    """Whether values are strings or bytes of any length."""
    return kind in _WIDE or kind in _WIDE.values()


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array, which is empty if the column has no chunk. Above 2 GB its type gets wide offsets."""
    wide = _WIDE.get(column.type)
    if wide is not None and column.num_chunks > 1 and column.nbytes > _NARROW:
        column = column.cast(wide)
    joined = column.combine_chunks()
    return joined if isinstance(joined, pa.Array) else pa.concat_arrays(joined.chunks)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _flat(column: pa.ChunkedArray, where: str) -> tuple[np.ndarray, tuple[int, ...]]:
    """All numbers of a column as a flat array, and the shape of one row."""
    array = one_array(column)
    if isinstance(array, pa.ExtensionArray):
        tensor_shape = tuple(getattr(array.type, "shape", ()))
        values, storage_shape = _flat(pa.chunked_array([array.storage]), where)
        return values, tensor_shape or storage_shape
    shape: tuple[int, ...] = ()
    while True:
        if array.null_count and not pa.types.is_floating(array.type):
            raise DataError(f"{where}: found {array.null_count} nulls inside lists, expected numbers")
        if not _is_list(array.type):
            break
        lengths = np.unique(np.diff(array.offsets.to_numpy())) if hasattr(array, "offsets") else [array.type.list_size]
        if len(lengths) > 1:
            raise DataError(f"{where}: found lists of {lengths[0]} to {lengths[-1]} numbers, expected one length")
        shape = (*shape, int(lengths[0]))
        array = array.flatten()
    if pa.types.is_fixed_size_binary(array.type):
        width = array.type.byte_width
        data = np.frombuffer(array.buffers()[1], np.uint8)[array.offset * width : (array.offset + len(array)) * width]
        return data, (*shape, width)
    return array.to_numpy(zero_copy_only=False), shape


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "one number"
