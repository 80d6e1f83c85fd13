"""The shards of a dataset and their row counts: from the Delta log alone, or from the footers of a plain folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from headrace.errors import DataError, RecipeError
from headrace.loading.table.cache import Cache
from headrace.loading.table.storage import open_filesystem, read_with

_UNREADABLE = {"deletionVectors", "columnMapping"}


@dataclass(frozen=True)
class Place:
    """Where a dataset is, and which version of it."""

    root: str
    """the folder as the user wrote it"""
    filesystem: fs.FileSystem
    folder: str
    """the folder's path in `filesystem`"""
    version: int | None
    """the version of the Delta table; None for a plain folder"""
    cache: Cache | None = None

    @property
    def is_local(self) -> bool:
        """Whether the files are on a local disk."""
        return isinstance(self.filesystem, fs.LocalFileSystem)


@dataclass(frozen=True)
class Plan:
    """What an epoch needs to know about a version of a dataset. Shards are sorted by path and none is empty."""

    place: Place
    schema: pa.Schema
    """the columns of the dataset, including partition columns"""
    paths: pa.Array
    """the files, relative to the folder, as strings"""
    rows: np.ndarray
    """rows of each file, int64"""
    sizes: np.ndarray
    """bytes of each file, int64"""
    partitions: pa.Table
    """the values of the partition columns, one row for each file; without columns if there are none"""
    nullable: frozenset[str]
    """columns that have nulls somewhere, as far as the log or the footers tell"""

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, shard: int) -> str:
        """The path of the file of `shard` in `filesystem`."""
        path = self.paths[shard].as_py()
        if "://" in path:
            parts = urlsplit(path)
            return parts.netloc + parts.path
        return path if path.startswith("/") else f"{self.place.folder}/{path}"

    def digest(self) -> str:
        """A hash (16 hexadecimal digits) of the shards' names and row counts."""
        names = pa.concat_arrays([self.paths])
        hasher = hashlib.blake2b(self.rows.tobytes(), digest_size=8)
        for buffer in names.buffers()[1:]:
            hasher.update(buffer)
        return hasher.hexdigest()


def plan(
    path: str,
    version: int | None = None,
    storage_options: dict[str, str] | None = None,
    cache: Callable[[str], Cache] | None = None,
    where: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan the Delta table, or the plain folder of Parquet files, at `path` (a local path or a URI).

    `cache` makes the cache of a folder that is not local. `where` keeps only the files whose partition columns have
    these values; None and the empty string are null. Raises DataError if there is no table, `version` does not exist,
    or no file has a row; raises RecipeError if `where` names something other than a partition column, or a value that
    no file has.
    """
    filesystem, folder = open_filesystem(path, storage_options)
    table, log = filesystem.get_file_info([folder, f"{folder}/_delta_log"])
    local = isinstance(filesystem, fs.LocalFileSystem)
    place = Place(path, filesystem, folder, None, None if local or cache is None else cache(path))
    if log.type != fs.FileType.NotFound:
        planned = _from_log(place, version, storage_options)
    elif table.type == fs.FileType.NotFound:
        raise DataError(f"{path}: found nothing, expected a Delta table or a folder of Parquet files")
    elif version is not None:
        raise DataError(f"{path}: found no Delta log, expected version {version} of a Delta table")
    else:
        planned = _from_footers(place)
    if where:
        planned = _filtered(planned, where)
    pa.default_memory_pool().release_unused()
    if not len(planned):
        raise DataError(f"{path}: found no rows, expected at least one shard with rows")
    return planned


def has_log(path: str, storage_options: dict[str, str] | None = None) -> bool:
    """Whether there is a Delta log at `path`, a folder or a URI."""
    filesystem, folder = open_filesystem(path, storage_options)
    return filesystem.get_file_info(f"{folder}/_delta_log").type != fs.FileType.NotFound


def _from_log(place: Place, version: int | None, storage_options: dict[str, str] | None) -> Plan:
    from deltalake.exceptions import DeltaError

    from headrace.loading.table.deltalog import snapshot

    path, filesystem, folder = place.root, place.filesystem, place.folder
    try:
        found = snapshot(filesystem, folder, folder if place.is_local else path, version, storage_options)
    except (DeltaError, pa.ArrowException, ValueError, OSError) as error:
        raise DataError(f"{path}: cannot read the Delta log: {_line(error)}") from error
    if unreadable := found.features & _UNREADABLE:
        raise DataError(f"{path}: found Delta features {', '.join(sorted(unreadable))}, expected plain Parquet files")
    rows = found.rows
    if rows.null_count:
        counted = [
            _footer(filesystem, f"{folder}/{name}").num_rows if count is None else count
            for name, count in zip(found.paths.to_pylist(), rows.to_pylist(), strict=True)
        ]
        rows = pa.array(counted, pa.int64())
    place = replace(place, version=found.version)
    return _sorted(place, found.schema, found.paths, rows, found.sizes, found.partitions, found.nullable)


def _from_footers(place: Place) -> Plan:
    path, filesystem, folder = place.root, place.filesystem, place.folder
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
    footers = [_footer(filesystem, info.path) for info in files]
    rows = pa.array([footer.num_rows for footer in footers], pa.int64())
    schema = footers[0].schema.to_arrow_schema().remove_metadata()
    names = pa.array([info.path.removeprefix(folder).lstrip("/") for info in files], pa.string())
    sizes = pa.array([info.size for info in files], pa.int64())
    nullable = frozenset().union(*map(_columns_with_nulls, footers))
    return _sorted(place, schema, names, rows, sizes, pa.table({}), nullable)


def _filtered(planned: Plan, where: Mapping[str, Any]) -> Plan:
    """The plan of the shards whose partition columns have the values in `where`."""
    columns, root = planned.partitions.column_names, planned.place.root
    kept = pa.array(np.ones(len(planned), bool))
    for name, value in where.items():
        if name not in columns:
            raise RecipeError(
                f"where: found {name!r}, expected a partition column of {root} ({', '.join(columns) or 'it has none'})"
            )
        column = planned.partitions.column(name).combine_chunks()
        try:
            is_null = value is None or value == ""
            matching = pc.is_null(column) if is_null else pc.equal(column, pa.scalar(value).cast(column.type))
        except pa.ArrowException:
            matching = pa.nulls(len(column), pa.bool_())
        kept = pc.and_(kept, pc.fill_null(matching, False))
    if not pc.any(kept).as_py():
        found = ", ".join(f"{name}={value!r}" for name, value in where.items())
        there = planned.partitions.select(list(where)).group_by(list(where)).aggregate([]).slice(0, 10).to_pylist()
        known = " or ".join(", ".join(f"{name}={value!r}" for name, value in row.items()) for row in there)
        raise RecipeError(f"where: found {found}, expected {known or 'a table with files'}")
    return replace(
        planned,
        paths=planned.paths.filter(kept),
        rows=planned.rows[kept.to_numpy(zero_copy_only=False)],
        sizes=planned.sizes[kept.to_numpy(zero_copy_only=False)],
        partitions=planned.partitions.filter(kept),
    )


def _sorted(
    place: Place,
    schema: pa.Schema,
    names: pa.Array,
    rows: pa.Array,
    sizes: pa.Array,
    partitions: pa.Table,
    nullable: frozenset[str],
) -> Plan:
    if not pc.all(pc.less_equal(names[:-1], names[1:])).as_py() or pc.min(rows).as_py() == 0:
        places = pc.sort_indices(names)
        places = places.filter(pc.greater(rows.take(places), 0))
        names, rows, sizes = names.take(places), rows.take(places), sizes.take(places)
        partitions = partitions.take(places) if partitions.num_columns else partitions
    return Plan(
        place=place,
        schema=schema,
        paths=names,
        rows=rows.to_numpy(),
        sizes=sizes.to_numpy(),
        partitions=partitions,
        nullable=nullable,
    )


def _footer(filesystem: fs.FileSystem, path: str) -> pq.FileMetaData:
    try:
        return read_with(filesystem, path, 0, None, lambda file, _: pq.read_metadata(file))
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot read the Parquet footer: {_line(error)}") from error


def _columns_with_nulls(footer: pq.FileMetaData) -> frozenset[str]:
    chunks = [
        footer.row_group(group).column(column)
        for group in range(footer.num_row_groups)
        for column in range(footer.num_columns)
    ]
    return frozenset(
        chunk.path_in_schema
        for chunk in chunks
        if chunk.statistics is not None and chunk.statistics.has_null_count and chunk.statistics.null_count
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
