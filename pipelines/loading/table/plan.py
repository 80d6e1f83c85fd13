"""The shards of a dataset and their row counts: from the Delta log alone, or from the footers of a plain folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import fs

from headrace.delta import URI
from headrace.errors import DataError, RecipeError, Unavailable
from headrace.loading.table.adds import one_array, typed
from headrace.loading.table.cache import Cache
from headrace.loading.table.failures import says_nothing_of_the_data
from headrace.loading.table.plain import footer, plain_table
from headrace.loading.table.storage import file_in, one_line, open_filesystem, store_of

if TYPE_CHECKING:
    from headrace.loading.table.deltalog import Snapshot


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

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, shard: int) -> str:
        """The path of the file of `shard` in `filesystem`."""
        return file_in(self.place.folder, self.paths[shard].as_py())

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
    elif table.type == fs.FileType.File:
        raise DataError(f"{path}: found a file, expected a folder: a Delta table, or one of Parquet files")
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
        kind = Unavailable if says_nothing_of_the_data(error) else DataError
        raise kind(f"{path}: cannot read the Delta log: {one_line(error)}") from error
    _check_stores(path, found.paths)
    place = replace(place, version=found.version)
    return _sorted(place, found.schema, found.paths, _counted(place, found), found.sizes, found.partitions)


def _check_stores(root: str, paths: pa.Array) -> None:
    """Raise DataError if a file is not in the file system of the table."""
    uris = paths.filter(pc.match_substring_regex(paths, URI))
    for uri in uris.to_pylist():
        if store_of(uri) != store_of(root):
            raise DataError(f"{root}: found the file {uri} in the log, expected files in the file system of the table")


def _counted(place: Place, found: Snapshot) -> pa.Array:
    """The rows of each file. Where the log does not tell, or tells of none or of more than bytes, the footer is read.

    Raises DataError if the log tells another number than the footer.
    """
    doubtful = pc.or_kleene(pc.is_null(found.rows), pc.or_(pc.less(found.rows, 1), pc.greater(found.rows, found.sizes)))
    if not pc.any(doubtful).as_py():
        return found.rows
    counted = []
    for name, told in zip(found.paths.filter(doubtful), found.rows.filter(doubtful), strict=True):
        path = file_in(place.folder, name.as_py())
        there = footer(place.filesystem, path).num_rows
        if told.is_valid and told.as_py() != there:
            raise DataError(f"{path}: found {there} rows, expected {told} as version {found.version} says")
        counted.append(there)
    return pc.replace_with_mask(found.rows, doubtful, pa.array(counted, pa.int64()))


def _from_footers(place: Place) -> Plan:
    schema, files = plain_table(place.filesystem, place.folder)
    keys = [name for name in files.column_names if name.startswith("partition.")]
    paths, rows, sizes = (one_array(files.column(name)) for name in ("path", "rows", "size"))
    partitions = files.select(keys).rename_columns([key.removeprefix("partition.") for key in keys])
    return _sorted(place, schema, paths, rows, sizes, partitions)


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
            wanted = typed(pa.array([value]), column.type) if isinstance(value, str) else pa.array([value])
            matching = pc.is_null(column) if is_null else pc.equal(column, wanted.cast(column.type)[0])
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
    )
