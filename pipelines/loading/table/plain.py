"""A plain folder of Parquet files as a table: its schema, its files and the partitions that their folders name."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.dataset as pds
import pyarrow.parquet as pq
from pyarrow import fs

from headrace.errors import DataError
from headrace.loading.table.failures import read_error
from headrace.loading.table.storage import one_line, read_with


def footer(filesystem: fs.FileSystem, path: str) -> pq.FileMetaData:
    """The Parquet footer of a file. Raises DataError if the file is bad, Unavailable if it cannot be read now."""
    try:
        return read_with(filesystem, path, None, None, lambda file, _: pq.read_metadata(file))
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise read_error(path, error) from error


def parquet_files(filesystem: fs.FileSystem, folder: str) -> list[fs.FileInfo]:
    """The Parquet files in `folder` and below, by path. What is hidden or temporary to Spark is left out here too."""
    found = []
    for info in filesystem.get_file_info(fs.FileSelector(folder, recursive=True)):
        parts = info.path.removeprefix(folder).split("/")
        hidden = any(part.startswith(".") or (part.startswith("_") and "=" not in part) for part in parts)
        if not hidden and info.extension in {"parquet", "parq"} and info.type != fs.FileType.Directory:
            found.append(info)
    return sorted(found, key=lambda info: info.path)


def plain_table(filesystem: fs.FileSystem, folder: str) -> tuple[pa.Schema, pa.Table]:
    """The schema of a plain folder, and a table with `path` (relative), `size`, `rows` and `partition.*` of each file.

    Raises DataError if it has no Parquet file, or if the types in its files do not fit together.
    """
    files = parquet_files(filesystem, folder)
    if not files:
        raise DataError(f"{folder}: found no .parquet file, expected a Delta table or a folder of Parquet files")
    rows: list[int] = []
    first: dict[pa.Schema, str] = {}
    """each schema, and the first file that has it"""
    for info in files:
        metadata = footer(filesystem, info.path)
        rows.append(metadata.num_rows)
        first.setdefault(metadata.schema.to_arrow_schema().remove_metadata(), info.path)
    names = [info.path.removeprefix(folder).lstrip("/") for info in files]
    partitions = _partitions(names)
    schema = _merged(first)
    for key, column in partitions.items():
        field = pa.field(key, column.type)
        place = schema.get_field_index(key)
        schema = schema.append(field) if place < 0 else schema.set(place, field)
    columns = {"path": pa.array(names, pa.string()), "size": pa.array([info.size for info in files], pa.int64())}
    columns["rows"] = pa.array(rows, pa.int64())
    return schema, pa.table({**columns, **{f"partition.{key}": column for key, column in partitions.items()}})


def _merged(schemas: dict[pa.Schema, str]) -> pa.Schema:
    """The columns of all `schemas`, with types that hold those of each; a column that a file lacks may be null.

    Their order is that of the files, by path, and not that in which the folder lists them.
    """
    merged, *others = schemas
    for other in others:
        missing = set(merged.names) ^ set(other.names)
        try:
            merged = pa.unify_schemas([merged, other], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise DataError(f"{schemas[other]}: {one_line(error)}, expected types as in the other files") from None
        merged = pa.schema([one.with_nullable(True) if one.name in missing else one for one in merged])
    return merged


def _partitions(names: list[str]) -> dict[str, pa.Array]:
    """The columns that folders `NAME=VALUE` make: of int64 if all values are whole numbers, else of strings."""
    folders = [name.rpartition("/")[0] for name in names]
    keys = list(dict.fromkeys(part.partition("=")[0] for one in folders for part in one.split("/") if "=" in part))
    if not keys:
        return {}
    scheme = pds.HivePartitioning(pa.schema([(key, pa.string()) for key in keys]))
    values = {folder: pds.get_partition_keys(scheme.parse(f"{folder}/")) for folder in dict.fromkeys(folders)}
    columns = {key: pa.array([values[folder].get(key) for folder in folders], pa.string()) for key in keys}
    for key, column in columns.items():
        try:
            columns[key] = column.cast(pa.int64())
        except pa.ArrowInvalid:
            continue
    return columns
