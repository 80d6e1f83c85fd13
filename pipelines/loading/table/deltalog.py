"""One version of a Delta table, read from its log with little memory: a large table may have millions of files.

deltalake keeps several hundred bytes for each file. This module reads a classic checkpoint
(github.com/delta-io/delta, PROTOCOL.md, "Checkpoints") a few thousand rows at a time and keeps only each file's path,
size, rows and partition. deltalake reads the logs that it does not cover: those with a checkpoint of another kind, and
long ones without a checkpoint.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, Schema
from pyarrow import fs
from pyarrow import json as pj

_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint(?:\.(\d{10})\.(\d{10}))?\.parquet$")
_COMMIT = re.compile(r"(\d{20})\.json$")
_ANY_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.")
_BATCH_ROWS = 1 << 15
_COMMIT_BYTES = 16 << 20
"""the most bytes of commits after the checkpoint that are read here; deltalake reads longer logs"""
_FIELDS = ("path", "size", "stats")


@dataclass(frozen=True)
class Snapshot:
    """A version of a table. Its files are in no particular order."""

    version: int
    schema: pa.Schema
    features: frozenset[str]
    """the protocol features that a reader must support"""
    paths: pa.Array
    """strings, each relative to the table, absolute, or a URI"""
    sizes: pa.Array
    """bytes, int64"""
    rows: pa.Array
    """rows of each file, int64, null where the log does not record them"""
    partitions: pa.Table
    """one typed column for each partition column, one row for each file"""
    nullable: frozenset[str]
    """top-level columns that have nulls in some file or are missing there, as far as the log's statistics tell"""


def snapshot(
    filesystem: fs.FileSystem, folder: str, uri: str, version: int | None, options: dict[str, str] | None
) -> Snapshot:
    """Version `version` (None: the latest) of the table in `folder` of `filesystem`; `uri` is its name for deltalake.

    Raises ValueError for a log without protocol or metadata, and whatever pyarrow and deltalake raise.
    """
    log = {info.path: info.size for info in filesystem.get_file_info(fs.FileSelector(f"{folder}/_delta_log"))}
    found = _segment(list(log), version)
    if found is not None and sum(log[path] or 0 for path in found[2]) > _COMMIT_BYTES:
        found = None
    if found is None:
        return by_deltalake(uri, version, options)
    number, parts, commits = found
    later = _Commits(filesystem, commits)
    protocol, metadata = later.last.get("protocol"), later.last.get("metaData")
    for part in parts if protocol is None or metadata is None else ():
        before = _settings(filesystem, part)
        protocol, metadata = protocol or before.get("protocol"), metadata or before.get("metaData")
    if protocol is None or metadata is None:
        raise ValueError(f"found no {'metaData' if protocol else 'protocol'} in the log, expected one")
    schema = pa.schema(Schema.from_json(metadata["schemaString"]).to_arrow())
    keys = list(metadata["partitionColumns"] or [])
    kinds = {key: schema.field(key).type for key in keys}
    batches = [_kept(batch, kinds, later.touched) for part in parts for batch in _checkpointed(filesystem, part)]
    batches += [_kept(batch, kinds, pa.array([], pa.string())) for batch in later.adds()]
    files = pa.concat_tables([batch for batch, _ in batches])
    nullable = _nullable([nulls for _, nulls in batches])
    paths, sizes, rows = (_array(files, name) for name in ("path", "size", "rows"))
    features = frozenset(protocol.get("readerFeatures") or ())
    return Snapshot(number, schema, features, paths, sizes, rows, files.select(keys), nullable)


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


def _settings(filesystem: fs.FileSystem, path: str) -> dict[str, Any]:
    """The `protocol` and `metaData` actions of a checkpoint."""
    found: dict[str, Any] = {}
    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(source, pre_buffer=False)
        columns = [name for name in ("protocol", "metaData") if name in file.schema_arrow.names]
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            for name in columns:
                column = batch.column(name)
                if column.null_count < len(column):
                    found[name] = column.drop_null()[0].as_py()
    return found


def _checkpointed(filesystem: fs.FileSystem, path: str) -> Iterator[pa.StructArray]:
    """The `add` actions of a checkpoint, a few thousand at a time."""
    with filesystem.open_input_file(path) as source:
        file = pq.ParquetFile(source, pre_buffer=False)
        inner = {field.name for field in file.schema_arrow.field("add").type}
        columns = [f"add.{name}" for name in (*_FIELDS, "partitionValues") if name in inner]
        for batch in file.iter_batches(_BATCH_ROWS, columns=columns, use_threads=False):
            adds = batch.column("add")
            yield adds.filter(pc.is_valid(pc.struct_field(adds, "path")))


class _Commits:
    """The files that the commits after a checkpoint add and remove. The last action on a path counts."""

    def __init__(self, filesystem: fs.FileSystem, paths: list[str]) -> None:
        self._adds: dict[str, dict[str, Any]] = {}
        self.last: dict[str, dict[str, Any]] = {}
        """the last `protocol` and `metaData` actions"""
        touched: set[str] = set()
        for path in paths:
            with filesystem.open_input_stream(path) as file:
                lines = file.read().splitlines()
            for action in (json.loads(line) for line in lines if line):
                self.last |= {kind: action[kind] for kind in ("protocol", "metaData") if kind in action}
                for kind in ("add", "remove"):
                    if kind in action:
                        name = action[kind]["path"]
                        touched.add(name)
                        self._adds.pop(name, None)
                        if kind == "add":
                            self._adds[name] = action[kind]
        self.touched = pa.array(sorted(touched), pa.string())

    def adds(self) -> Iterator[pa.StructArray]:
        """The `add` actions that no later action replaces."""
        kind = pa.struct(
            [
                ("path", pa.string()),
                ("size", pa.int64()),
                ("stats", pa.string()),
                ("partitionValues", pa.map_(pa.string(), pa.string())),
            ]
        )
        rows = [
            {**{name: add.get(name) for name in _FIELDS}, "partitionValues": list(add["partitionValues"].items())}
            for add in self._adds.values()
        ]
        yield pa.array(rows, kind)


def _kept(adds: pa.StructArray, kinds: dict[str, pa.DataType], gone: pa.Array) -> tuple[pa.Table, _Nulls]:
    """Path, size, rows and partition of each action whose path is not in `gone`, and what is known of nulls."""
    if len(gone):
        adds = adds.filter(pc.invert(pc.is_in(pc.struct_field(adds, "path"), value_set=gone)))
    rows, nulls = _counts(pc.struct_field(adds, "stats"))
    columns = {
        "path": _unquoted(pc.struct_field(adds, "path")),
        "size": pc.struct_field(adds, "size").cast(pa.int64()),
        "rows": rows,
    }
    for key, kind in kinds.items():
        value = pc.map_lookup(pc.struct_field(adds, "partitionValues"), key, "first")
        columns[key] = pc.if_else(pc.equal(value, ""), None, value).cast(kind)  # "" is null, PROTOCOL.md says
    return pa.table(columns), nulls


@dataclass
class _Nulls:
    """What the statistics of some files say about nulls."""

    files: int = 0
    """how many of the files count nulls"""
    counted: Counter[str] = field(default_factory=Counter)
    """in how many files the nulls of a column are counted"""
    found: set[str] = field(default_factory=set)
    """the columns that have nulls in some file"""


def _nullable(batches: Iterable[_Nulls]) -> frozenset[str]:
    """The columns with nulls. A file that counts only the nulls of other columns lacks the column: it is null there."""
    whole = _Nulls()
    for batch in batches:
        whole.files += batch.files
        whole.counted += batch.counted
        whole.found |= batch.found
    return frozenset(whole.found | {name for name, files in whole.counted.items() if files < whole.files})


def _counts(stats: pa.Array) -> tuple[pa.Array, _Nulls]:
    """`numRecords` in the statistics of each file, and what `nullCount` tells."""
    lines = pc.binary_join_element_wise(pc.fill_null(stats, "{}"), "", "\n")
    _, offsets, data = lines.buffers()
    if not len(lines) or data is None:
        return pa.nulls(len(stats), pa.int64()), _Nulls()
    text = data.slice(_offset(offsets, lines.offset), _offset(offsets, lines.offset + len(lines)))
    parsed = pj.read_json(pa.BufferReader(text), pj.ReadOptions(use_threads=False, block_size=max(1 << 20, text.size)))
    rows = _array(parsed, "numRecords").cast(pa.int64()) if "numRecords" in parsed.column_names else None
    nulls = _Nulls()
    if "nullCount" in parsed.column_names and pa.types.is_struct(parsed.schema.field("nullCount").type):
        counts = _array(parsed, "nullCount")
        nulls.files = len(counts) - counts.null_count
        for name in (each.name for each in counts.type if pa.types.is_integer(each.type)):
            of_column = pc.struct_field(counts, name)
            nulls.counted[name] = len(of_column) - of_column.null_count
            if (pc.max(of_column).as_py() or 0) > 0:
                nulls.found.add(name)
    return pa.nulls(len(stats), pa.int64()) if rows is None else rows, nulls


def _offset(offsets: pa.Buffer, number: int) -> int:
    return int.from_bytes(offsets[4 * number : 4 * number + 4].to_pybytes(), "little")


def by_deltalake(uri: str, version: int | None, options: dict[str, str] | None) -> Snapshot:
    """The same as `snapshot`, read by deltalake; it handles every log that deltalake can open."""
    table = DeltaTable(uri, version=version, storage_options=options)
    keys = list(table.metadata().partition_columns)
    actions = pa.table(table.get_add_actions(flatten=True))
    nulls, counts = _Nulls(), np.zeros(len(actions), bool)
    for name in (name for name in actions.column_names if name.startswith("null_count.")):
        of_column, column = actions.column(name), name.removeprefix("null_count.")
        counts |= of_column.is_valid().to_numpy()
        nulls.counted[column] = len(of_column) - of_column.null_count
        if pc.max(of_column).as_py():
            nulls.found.add(column)
    nulls.files = int(counts.sum())
    return Snapshot(
        table.version(),
        pa.schema(table.schema().to_arrow()),
        frozenset(table.protocol().reader_features or ()),
        _unquoted(_array(actions, "path")),
        _array(actions, "size_bytes"),
        _array(actions, "num_records"),
        actions.select([f"partition.{key}" for key in keys]).rename_columns(keys),
        _nullable([nulls]),
    )


def _unquoted(paths: pa.Array) -> pa.Array:
    """Paths as they are on disk: the log stores them percent-encoded."""
    if not pc.any(pc.match_substring(paths, "%")).as_py():
        return paths
    return pa.array([unquote(name) for name in paths.to_pylist()], pa.string())


def _array(table: pa.Table, name: str) -> pa.Array:
    chunks = table.column(name).chunks
    values = pa.concat_arrays(chunks) if chunks else pa.array([], table.schema.field(name).type)
    return values.cast(pa.string()) if pa.types.is_large_string(values.type) else values
