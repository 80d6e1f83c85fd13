"""A part of a classic checkpoint of a Delta log, read a few thousand rows at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs
from pydantic import BaseModel, ValidationError

from headrace.loading.table.actions import Metadata, Protocol, fault
from headrace.loading.table.adds import SCHEMA, VALUES

A = TypeVar("A", bound=BaseModel)

_BATCH_ROWS = 1 << 14
_BUFFER = 1 << 20
"""bytes that are read at once, in place of whole columns: those of statistics are long"""
_REQUIRED: dict[str, Callable[[pa.DataType], bool]] = {
    "path": lambda kind: pa.types.is_string(kind) or pa.types.is_large_string(kind),
    "size": pa.types.is_integer,
    "partitionValues": pa.types.is_map,
}


def settings(filesystem: fs.FileSystem, path: str) -> tuple[Protocol | None, Metadata | None]:
    """The `protocol` and the `metaData` in a checkpoint. Raises ValueError if one is wrong."""
    protocol: Protocol | None = None
    metadata: Metadata | None = None
    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER)
        columns = [name for name in ("protocol", "metaData") if name in file.schema_arrow.names]
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            for name in columns:
                for one in batch.column(name).drop_null():
                    if name == "protocol":
                        protocol = _validated(Protocol, one, f"{path}: protocol")
                    else:
                        metadata = _validated(Metadata, one, f"{path}: metaData")
    return protocol, metadata


def _validated(kind: type[A], value: pa.Scalar, name: str) -> A:
    fields = value.as_py(maps_as_pydicts="lossy") if pa.types.is_struct(value.type) else value.as_py()
    try:
        return kind.model_validate(
            {key: one for key, one in fields.items() if one is not None} if isinstance(fields, dict) else fields
        )
    except ValidationError as error:
        raise ValueError(f"{name}.{fault(error)}") from None


def adds(filesystem: fs.FileSystem, path: str) -> Iterator[pa.RecordBatch]:
    """The `add` actions in a checkpoint, as batches of `SCHEMA`. Raises ValueError if fields are wrong."""
    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER)
        add = file.schema_arrow.field("add").type if "add" in file.schema_arrow.names else pa.null()
        types = {one.name: one.type for one in add} if pa.types.is_struct(add) else {}
        for name, fits in _REQUIRED.items():
            if name not in types or not fits(types[name]):
                raise ValueError(f"{path}: found add.{name} of type {types.get(name, 'none')}, expected Delta's type")
        wanted = ["path", "size", "partitionValues"]
        if "stats" in types and _REQUIRED["path"](types["stats"]):
            wanted.append("stats")
        parsed = types.get("stats_parsed", pa.null())
        if pa.types.is_struct(parsed) and any(one.name == "numRecords" for one in parsed):
            wanted.append("stats_parsed.numRecords")
        if "deletionVector" in types:
            wanted.append("deletionVector")
        columns = [f"add.{name}" for name in wanted]
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            yield _adds(batch.column("add"), path)


def _adds(column: pa.StructArray, path: str) -> pa.RecordBatch:
    column = column.drop_null()
    there = {one.name for one in column.type}
    if "deletionVector" in there and pc.struct_field(column, "deletionVector").null_count < len(column):
        raise ValueError(f"{path}: found a file with a deletion vector, expected plain Parquet files")
    parsed = pc.struct_field(column, "stats_parsed") if "stats_parsed" in there else None
    fields = {
        "path": pc.struct_field(column, "path"),
        "size": pc.struct_field(column, "size"),
        "stats": pc.struct_field(column, "stats") if "stats" in there else pa.nulls(len(column)),
        "rows": pa.nulls(len(column)) if parsed is None else pc.struct_field(parsed, "numRecords"),
        "partitionValues": pc.struct_field(column, "partitionValues"),
    }
    for name in _REQUIRED:
        if fields[name].null_count:
            raise ValueError(f"{path}: found an add action without {name}, expected one")
    fields["partitionValues"] = fields["partitionValues"].cast(VALUES)
    return pa.record_batch([fields[name].cast(SCHEMA.field(name).type) for name in SCHEMA.names], schema=SCHEMA)
