"""The files of a version from the `add` actions of its log: path, size, rows and partition, with their types."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from headrace.delta import file_path

VALUES = pa.map_(pa.string(), pa.string())
SCHEMA = pa.schema(
    {"path": pa.string(), "size": pa.int64(), "stats": pa.string(), "rows": pa.int64(), "partitionValues": VALUES}
)
"""what is read of each action; `rows` comes from statistics that are no text"""
_COUNT = r'^\s*\{\s*"numRecords"\s*:\s*(?P<rows>[0-9]{1,18})\s*[,}]'
"""statistics of a file as most writers begin them"""
_ZONE = r"(Z|[+-]\d\d:?\d\d)$"
_PLAIN = r"^[^%:\x00]+$"
"""paths that are neither encoded nor URIs"""
_MOST_BYTES = 1 << 50
"""the largest file there is: object stores take objects of 5 × 2⁴⁰ bytes, file systems somewhat more"""


def files_of(adds: pa.RecordBatch, partitions: Mapping[str, pa.DataType]) -> pa.Table:
    """A table with `path`, `size`, `rows` and `partition.*` of each action in `adds`.

    `rows` is null where the log does not tell. Raises ValueError, which names the field, for what no table can have.
    """
    rows = pc.coalesce(_counts(adds.column("stats")), adds.column("rows"))
    columns = {"path": adds.column("path"), "size": adds.column("size"), "rows": rows}
    values = adds.column("partitionValues")
    return checked(columns, {f"partition.{key}": _partition(values, key, kind) for key, kind in partitions.items()})


def checked(columns: Mapping[str, pa.Array], partitions: Mapping[str, pa.Array]) -> pa.Table:
    """A table of `columns` (`path` is encoded, `size`, `rows`) and `partitions`. Raises ValueError like `files_of`."""
    sizes = columns["size"]
    wrong = pc.or_(pc.less(sizes, 1), pc.greater(sizes, _MOST_BYTES))
    if pc.any(wrong).as_py():
        place = pc.index(wrong, True).as_py()
        raise ValueError(f"{columns['path'][place]}: found size {sizes[place]}, expected 1 to {_MOST_BYTES}")
    return pa.table({**columns, "path": _decoded(columns["path"]), **partitions})


def _decoded(paths: pa.Array) -> pa.Array:
    plain = pc.and_(pc.match_substring_regex(paths, _PLAIN), pc.invert(pc.match_substring(paths, "..")))
    if pc.all(plain).as_py() is not False:
        return paths
    return pa.array([file_path(path) for path in paths.to_pylist()], pa.string())


def one_array(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array."""
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


class _Stats(BaseModel):
    model_config = ConfigDict(strict=True)

    numRecords: int | None = None


def _counts(stats: pa.Array) -> pa.Array:
    """`numRecords` in the statistics of each file, which are JSON; null where they do not tell or are none."""
    rows = pc.struct_field(pc.extract_regex(stats, _COUNT), "rows").cast(pa.int64())
    rest = pc.and_(pc.is_null(rows), pc.is_valid(stats))
    if not pc.any(rest).as_py():
        return rows
    return pc.replace_with_mask(rows, rest, pa.array(map(_count, stats.filter(rest).to_pylist()), pa.int64()))


def _count(stats: str) -> int | None:
    try:
        found = _Stats.model_validate_json(stats).numRecords
    except ValidationError:
        return None
    return None if found is None else min(max(found, -1), (1 << 63) - 1)


def _partition(values: pa.Array, key: str, kind: pa.DataType) -> pa.Array:
    """The values of a partition column; "" is null, PROTOCOL.md says under "Partition Value Serialization"."""
    if pc.any(pc.is_null(pc.map_lookup(values, key, "all"))).as_py():
        raise ValueError(f"found no value of the partition column {key} in an add action, expected one")
    text = pc.map_lookup(values, key, "first")
    try:
        return typed(pc.if_else(pc.equal(text, ""), None, text), kind)
    except pa.ArrowException as error:
        raise ValueError(f"partition column {key}: {error}") from None


def typed(text: pa.Array, kind: pa.DataType) -> pa.Array:
    """Values of a partition column from their text. Times in a zone are UTC if they name none.

    Raises an ArrowException for a text that is none of the type.
    """
    if pa.types.is_timestamp(kind) and kind.tz:
        text = pc.if_else(pc.match_substring_regex(text, _ZONE), text, pc.binary_join_element_wise(text, "Z", ""))
    return text.cast(kind)
