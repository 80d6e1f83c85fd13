"""Which shards a dataset has and how many rows each: from the Delta log alone, or from a plain folder's footers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from pipelines.errors import DataError
from pipelines.loading.storage import open_filesystem

_UNREADABLE = {"deletionVectors", "columnMapping"}


@dataclass(frozen=True)
class Plan:
    """One version of a dataset, as far as an epoch needs it. Shards are sorted by path; each has at least one row."""

    root: str
    """the folder, as the user gave it"""
    filesystem: fs.FileSystem
    folder: str
    """the folder, as `filesystem` calls it"""
    version: int | None
    """the version of the Delta table; None for a plain folder"""
    schema: pa.Schema
    """columns of the dataset, partition columns too"""
    paths: pa.Array
    """files, relative to the folder"""
    rows: np.ndarray
    """rows of each file, int64"""
    sizes: np.ndarray
    """bytes of each file, int64"""
    partitions: pa.Table
    """values of the partition columns, one row a file; no column where the dataset has none"""

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, shard: int) -> str:
        """Where the file of `shard` is, for `filesystem`."""
        path = self.paths[shard].as_py()
        return path if path.startswith("/") or "://" in path else f"{self.folder}/{path}"

    def digest(self) -> str:
        """A short hash of the shards' names and rows."""
        names = pa.concat_arrays([self.paths])
        hasher = hashlib.blake2b(self.rows.tobytes(), digest_size=8)
        for buffer in names.buffers()[1:]:
            hasher.update(buffer)
        return hasher.hexdigest()


def plan(path: str, version: int | None = None, storage_options: dict[str, str] | None = None) -> Plan:
    """Plan the Delta table, or the plain folder of Parquet files, at `path` (a folder or a URI).

    Raises DataError where there is none, where `version` does not exist, or where no file has a row.
    """
    filesystem, folder = open_filesystem(path, storage_options)
    found = filesystem.get_file_info([folder, f"{folder}/_delta_log"])
    if found[0].type == fs.FileType.NotFound and found[1].type == fs.FileType.NotFound:
        raise DataError(f"{path}: found nothing, expected a Delta table or a folder of Parquet files")
    if found[1].type == fs.FileType.NotFound:
        if version is not None:
            raise DataError(f"{path}: found no Delta log, expected version {version} of a Delta table")
        planned = _from_footers(path, filesystem, folder)
    else:
        planned = _from_log(path, filesystem, folder, version, storage_options)
    if not len(planned):
        raise DataError(f"{path}: found no rows, expected at least one shard with rows")
    return planned


def _from_log(
    path: str, filesystem: fs.FileSystem, folder: str, version: int | None, storage_options: dict[str, str] | None
) -> Plan:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    local = str(Path(folder).absolute()) if isinstance(filesystem, fs.LocalFileSystem) else path
    try:
        table = DeltaTable(local, version=version, storage_options=storage_options)
        features = set(table.protocol().reader_features or ())
        actions = pa.table(table.get_add_actions(flatten=True)).combine_chunks()
        schema = pa.schema(table.schema().to_arrow())
    except (DeltaError, ValueError, OSError) as error:
        raise DataError(f"{path}: cannot read the Delta log: {_line(error)}") from error
    if features & _UNREADABLE:
        raise DataError(
            f"{path}: found Delta features {', '.join(sorted(features & _UNREADABLE))}, expected plain Parquet files"
        )
    names = _column(actions, "path")
    if pc.any(pc.match_substring(names, "%")).as_py():
        names = pa.array([unquote(name) for name in names.to_pylist()], pa.string())
    rows = _column(actions, "num_records")
    if rows.null_count:
        counted = [
            _footer_rows(filesystem, f"{folder}/{name}") if count is None else count
            for name, count in zip(names.to_pylist(), rows.to_pylist(), strict=True)
        ]
        rows = pa.array(counted, pa.int64())
    keys = [name for name in actions.column_names if name.startswith("partition.")]
    partitions = actions.select(keys).rename_columns([name.removeprefix("partition.") for name in keys])
    return _sorted(
        path, filesystem, folder, table.version(), schema, names, rows, _column(actions, "size_bytes"), partitions
    )


def _from_footers(path: str, filesystem: fs.FileSystem, folder: str) -> Plan:
    listed = filesystem.get_file_info(fs.FileSelector(folder, recursive=True))
    files = [
        info
        for info in listed
        if info.type == fs.FileType.File
        and info.extension in {"parquet", "parq"}
        and not any(part.startswith(("_", ".")) for part in info.path.removeprefix(folder).split("/"))
    ]
    if not files:
        raise DataError(f"{path}: found no .parquet file, expected a Delta table or a folder of Parquet files")
    rows = [_footer_rows(filesystem, info.path) for info in files]
    schema = pq.read_schema(files[0].path, filesystem=filesystem).remove_metadata()
    names = pa.array([info.path.removeprefix(folder).lstrip("/") for info in files], pa.string())
    sizes = pa.array([info.size for info in files], pa.int64())
    return _sorted(path, filesystem, folder, None, schema, names, pa.array(rows, pa.int64()), sizes, pa.table({}))


def _sorted(
    path: str,
    filesystem: fs.FileSystem,
    folder: str,
    version: int | None,
    schema: pa.Schema,
    names: pa.Array,
    rows: pa.Array,
    sizes: pa.Array,
    partitions: pa.Table,
) -> Plan:
    places = pc.sort_indices(names)
    places = places.filter(pc.greater(rows.take(places), 0))
    return Plan(
        root=path,
        filesystem=filesystem,
        folder=folder,
        version=version,
        schema=schema,
        paths=names.take(places),
        rows=rows.take(places).to_numpy(),
        sizes=sizes.take(places).to_numpy(),
        partitions=partitions.take(places) if partitions.num_columns else partitions,
    )


def _column(table: pa.Table, name: str) -> pa.Array:
    chunks = table.column(name).chunks
    values = pa.concat_arrays(chunks) if chunks else pa.array([], table.schema.field(name).type)
    return values.cast(pa.string()) if pa.types.is_large_string(values.type) else values


def _footer_rows(filesystem: fs.FileSystem, path: str) -> int:
    try:
        return pq.read_metadata(path, filesystem=filesystem).num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot read the Parquet footer: {_line(error)}") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
