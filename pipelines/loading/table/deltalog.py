"""One version of a Delta table, read from its log with little memory: a large table may have millions of files.

deltalake keeps several hundred bytes for each file. This module reads a classic checkpoint
(github.com/delta-io/delta, PROTOCOL.md, "Checkpoints") a few thousand rows at a time and keeps only each file's path,
size, rows and partition. Of statistics it reads the number of rows and nothing else: writers differ in the rest.
deltalake reads the logs that it does not cover: those with a checkpoint of another kind, and long ones without a
checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, Schema
from pyarrow import fs

from headrace.delta import asked, unknown_features
from headrace.loading.table import checkpoint
from headrace.loading.table.actions import Add, Metadata, Protocol, actions
from headrace.loading.table.adds import SCHEMA, VALUES, checked, files_of, one_array

_CHECKPOINT = re.compile(r"/(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet$")
_COMMIT = re.compile(r"/(\d{20})\.json$")
_ANY_CHECKPOINT = re.compile(r"/(\d{20})\.checkpoint\.")
_COMMIT_BYTES = 16 << 20
"""the most bytes of commits after the checkpoint that are read here; deltalake reads longer logs"""


@dataclass(frozen=True)
class Snapshot:
    """A version of a table. Its files are in no particular order."""

    version: int
    schema: pa.Schema
    paths: pa.Array
    """strings, each relative to the table, absolute, or a URI"""
    sizes: pa.Array
    """bytes, int64"""
    rows: pa.Array
    """rows of each file, int64, null where the log does not record them"""
    partitions: pa.Table
    """one typed column for each partition column, one row for each file"""


def snapshot(
    filesystem: fs.FileSystem, folder: str, uri: str, version: int | None, options: dict[str, str] | None
) -> Snapshot:
    """Version `version` (None: the latest) of the table in `folder` of `filesystem`; `uri` is its name for deltalake.

    Raises ValueError for a log that breaks the protocol or asks what headrace does not know, and whatever pyarrow and
    deltalake raise.
    """
    log = _log_files(filesystem, f"{folder}/_delta_log")
    found = _segment(list(log), version)
    if found is None or sum(log[path] for path in found[2]) > _COMMIT_BYTES:
        return by_deltalake(uri, version, options)
    number, parts, commits = found
    later = _Commits(filesystem, commits)
    protocol, metadata = later.protocol, later.metadata
    for part in parts if protocol is None or metadata is None else ():
        before = checkpoint.settings(filesystem, part)
        protocol, metadata = protocol or before[0], metadata or before[1]
    if protocol is None or metadata is None:
        raise ValueError(f"found no {'metaData' if protocol else 'protocol'} in the log, expected one")
    configuration = {key: value for key, value in (metadata.configuration or {}).items() if value is not None}
    _check(protocol.minReaderVersion, protocol.readerFeatures, configuration)
    if "v2Checkpoint" in (protocol.readerFeatures or ()) and parts:  # its files may be listed in sidecars
        return by_deltalake(uri, version, options)
    schema, partitions = _columns(metadata.schemaString, metadata.partitionColumns)
    files = [
        files_of(_without(batch, later.touched), partitions)
        for part in parts
        for batch in checkpoint.adds(filesystem, part)
    ]
    return _snapshot(number, schema, list(partitions), [*files, files_of(later.adds(), partitions)])


def _log_files(filesystem: fs.FileSystem, folder: str) -> dict[str, int]:
    """The files of a log and their sizes. Raises ValueError for a pipe or a device: reading it would never end."""
    files = {}
    for info in filesystem.get_file_info(fs.FileSelector(folder, recursive=True)):
        if info.type == fs.FileType.Unknown:
            raise ValueError(f"found {info.path}, which is neither a file nor a folder, expected only these in a log")
        if info.type == fs.FileType.File and info.path.rpartition("/")[0] == folder:
            files[info.path] = info.size or 0
    return files


def _check(version: int, features: list[str] | None, configuration: Mapping[str, str]) -> None:
    if unknown := unknown_features(version, features, configuration):
        raise ValueError(f"found Delta features {', '.join(unknown)}, expected plain Parquet files")


def _columns(schema_string: str, keys: list[str]) -> tuple[pa.Schema, dict[str, pa.DataType]]:
    """The columns of a table, and the types of its partition columns. Raises ValueError if they are wrong."""
    try:
        schema = pa.schema(Schema.from_json(schema_string).to_arrow())
    except Exception as error:
        raise ValueError(f"metaData.schemaString: found no schema that can be read: {error}") from None
    for key in keys:
        if schema.names.count(key) != 1:
            raise ValueError(f"metaData.partitionColumns: found {key!r}, expected one of the columns {schema.names}")
    return schema, {key: schema.field(key).type for key in keys}


def _segment(log: list[str], version: int | None) -> tuple[int, list[str], list[str]] | None:
    """The version, the parts of the newest classic checkpoint up to it (if any), and the commits after that checkpoint.

    None if the log lacks one of these commits or has a newer checkpoint of another kind.
    """
    commits = {int(match[1]): path for path in log if (match := _COMMIT.search(path))}
    checkpoints: dict[int, list[tuple[int, str]]] = {}
    wanted: dict[int, int] = {}
    for path in log:
        if match := _CHECKPOINT.search(path):
            number = int(match[1])
            checkpoints.setdefault(number, []).append((int(match[2] or 1), path))
            wanted[number] = int(match[3] or 1)
    latest = max([*commits, *checkpoints], default=-1)
    version = latest if version is None else version
    whole = [number for number, parts in checkpoints.items() if number <= version and len(parts) == wanted[number]]
    any_kind = [int(match[1]) for path in log if (match := _ANY_CHECKPOINT.search(path)) and int(match[1]) <= version]
    newest = max(whole, default=-1)
    if max(any_kind, default=-1) != newest or version < 0:
        return None
    if any(number not in commits for number in range(newest + 1, version + 1)):
        return None
    parts = [path for _, path in sorted(checkpoints.get(newest, []))]
    return version, parts, [commits[number] for number in range(newest + 1, version + 1)]


class _Commits:
    """The files that the commits after a checkpoint add and remove. The last action on a path counts."""

    def __init__(self, filesystem: fs.FileSystem, paths: list[str]) -> None:
        self._adds: dict[str, Add] = {}
        self.protocol: Protocol | None = None
        self.metadata: Metadata | None = None
        touched: set[str] = set()
        for path in paths:
            with filesystem.open_input_stream(path) as file:
                lines = file.read().splitlines()
            for action in actions(lines, path):
                self.protocol, self.metadata = action.protocol or self.protocol, action.metaData or self.metadata
                for one in (action.add, action.remove):
                    if one is not None:
                        touched.add(one.path)
                        self._adds.pop(one.path, None)
                if action.add is not None:
                    self._adds[action.add.path] = action.add
        self.touched = pa.array(sorted(touched), pa.string())

    def adds(self) -> pa.RecordBatch:
        """The `add` actions that no later action replaces."""
        adds = self._adds.values()
        if any(add.deletionVector for add in adds):
            raise ValueError("found a file with a deletion vector, expected plain Parquet files")
        columns = {
            "path": pa.array([add.path for add in adds], pa.string()),
            "size": pa.array([add.size for add in adds], pa.int64()),
            "stats": pa.array([add.stats for add in adds], pa.string()),
            "rows": pa.nulls(len(adds), pa.int64()),
            "partitionValues": pa.array([list(add.partitionValues.items()) for add in adds], VALUES),
        }
        return pa.record_batch(columns, schema=SCHEMA)


def _without(adds: pa.RecordBatch, gone: pa.Array) -> pa.RecordBatch:
    return adds.filter(pc.invert(pc.is_in(adds.column("path"), value_set=gone))) if len(gone) else adds


def by_deltalake(uri: str, version: int | None, options: dict[str, str] | None) -> Snapshot:
    """The same as `snapshot`, read by deltalake; it handles every log that deltalake can open."""
    table = DeltaTable(uri, version=version, storage_options=options)
    _check(*asked(table))
    schema, partitions = _columns(table.schema().to_json(), list(table.metadata().partition_columns))
    added = pa.table(table.get_add_actions(flatten=True))
    renamed = {"path": "path", "size_bytes": "size", "num_records": "rows"}
    columns = {new: one_array(added.column(old)).cast(SCHEMA.field(new).type) for old, new in renamed.items()}
    typed = {f"partition.{key}": one_array(added.column(f"partition.{key}")) for key in partitions}
    return _snapshot(table.version(), schema, list(partitions), [checked(columns, typed)])


def _snapshot(version: int, schema: pa.Schema, keys: list[str], files: list[pa.Table]) -> Snapshot:
    whole = pa.concat_tables(files)
    files.clear()
    pa.default_memory_pool().release_unused()
    partitions = whole.select([f"partition.{key}" for key in keys]).rename_columns(keys)
    paths, sizes, rows = (one_array(whole.column(name)) for name in ("path", "size", "rows"))
    return Snapshot(version, schema, paths, sizes, rows, partitions)
