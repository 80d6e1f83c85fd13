"""The Delta log as output committer: readers see all files of a build, in one transaction, or none."""

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from deltalake import CommitProperties, DeltaTable, Schema, TableFeatures
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions
from pyarrow import fs
from pyspark.sql.types import StructType

from headrace.dataset.partitions import Partition
from headrace.dataset.storage import filesystem
from headrace.dataset.version.schema import holds_timestamp_ntz, merged
from headrace.delta import asked, unknown_features
from headrace.errors import DataError, RecipeError

LOG = "_delta_log"
BUILD = "headrace.build"
SHARD = re.compile(r"shard-\d+-[0-9a-f]+-\d+\.parquet")
OURS = frozenset({"_headrace", LOG})
ATTEMPTS = 20


@dataclass(frozen=True)
class File:
    """One shard that a task wrote."""

    path: str
    """relative to the table"""
    rows: int
    size: int
    """in bytes"""
    stats: str
    """Delta's statistics, as JSON"""
    value: str | None = None
    """the partition value; None for null"""


def check_output(root: str) -> None:
    """Raise RecipeError if `root` holds anything other than a Delta table or the remains of a failed build."""
    files, folder = filesystem(root)
    kind = files.get_file_info(folder).type
    if kind == fs.FileType.NotFound:
        return
    if kind == fs.FileType.File:
        raise RecipeError(f"dataset.output.path: found a file at {root!r}, expected a free path or a dataset")
    names = {entry.base_name for entry in files.get_file_info(fs.FileSelector(folder))}
    if LOG in names:
        _open(root)
        return
    if other := sorted(name for name in names if name not in OURS and not SHARD.fullmatch(name)):
        raise RecipeError(f"dataset.output.path: found {other[0]!r} in {root!r}, expected an empty folder or a dataset")


def open_table(root: str) -> DeltaTable | None:
    """The Delta table at `root`, or None if there is none yet."""
    files, folder = filesystem(root)
    if files.get_file_info(f"{folder}/{LOG}").type == fs.FileType.NotFound:
        return None
    return _open(root)


def _open(root: str) -> DeltaTable:
    try:
        table = DeltaTable(root)
    except DeltaError as error:
        first = str(error).splitlines()[0]
        raise RecipeError(f"dataset.output.path: found a broken Delta log in {root!r}: {first}") from None
    if found := unknown_features(*asked(table)):
        raise RecipeError(
            f"dataset.output.path: found Delta features {', '.join(found)} in {root!r}, expected plain Parquet files"
        )
    return table


def check_files(root: str, files: Sequence[File]) -> None:
    """Raise DataError unless the `files` that tasks reported are at `root`, with the sizes that were reported.

    They are not if `root` is a folder on the disk of each machine of a cluster, instead of one that all share.
    """
    if not files:
        return
    system, folder = filesystem(root)
    there = {info.base_name: info.size for info in system.get_file_info(fs.FileSelector(folder, allow_not_found=True))}
    if lost := sorted(file.path for file in files if there.get(file.path) != file.size):
        found = "missing" if lost[0] not in there else f"of {there[lost[0]]:,} bytes"
        raise DataError(
            f"dataset.output.path: found {len(lost):,} of {len(files):,} shards missing or incomplete in {root!r} "
            f"({lost[0]} is {found}), expected all that tasks wrote: a folder that all machines share, or a URI"
        )


def merged_schema(
    root: str, table: DeltaTable | None, schema: StructType, partition: Partition | None, column: str | None
) -> StructType:
    """The schema of the table at `root` once a build with the columns of `schema` is committed, arguments as there.

    Raises RecipeError if the table is partitioned differently, or if a column in other partitions has another type.
    """
    if table is None:
        return schema
    found = table.metadata().partition_columns
    if found != ([column] if column else []):
        raise RecipeError(
            f"dataset.output.partition: found {column!r}, expected {found[0] if found else None!r}, "
            f"the partition of the table at {root!r}"
        )
    return schema if partition is None else merged(root, table, schema, partition)


def commit(
    root: str,
    schema: StructType,
    files: Sequence[File],
    metadata: Mapping[str, str],
    partition: Partition | None = None,
    column: str | None = None,
) -> int:
    """Make `files` the whole content of the table at `root`, or of its `partition` (name, value); returns the version.

    `column` is the column that the table is partitioned by (None: unpartitioned). Each file has a value of it.

    This is one transaction. If another build commits in the meantime, it is retried on top of that commit. Delta's own
    retries are off, because they would let two first builds of a partition keep both sets of files. Raises RecipeError
    as `merged_schema` does.
    """
    now = int(time.time() * 1000)
    by = [column] if column else []
    actions = [AddAction(file.path, file.size, dict.fromkeys(by, file.value), now, True, file.stats) for file in files]
    for attempt in range(ATTEMPTS):
        build = uuid.uuid4().hex
        properties = CommitProperties({**metadata, BUILD: build}, max_commit_retries=0)
        table = open_table(root)
        after = merged_schema(root, table, schema, partition, column)
        described = Schema.from_json(after.json())
        try:
            if table is None:
                create_table_with_add_actions(root, described, actions, partition_by=by, commit_properties=properties)
            else:
                if holds_timestamp_ntz(after):
                    _allow_timestamp_ntz(table)
                table.create_write_transaction(
                    [*actions],
                    "overwrite",
                    described,
                    partition_by=by,
                    # deltalake writes null as the empty string in a filter
                    partition_filters=[(partition[0], "=", partition[1] or "")] if partition else None,
                    commit_properties=properties,
                )
        except DeltaError:
            if attempt == ATTEMPTS - 1 or not _is_outdated(root, table):
                raise
            continue
        return _version_of(root, build)
    raise AssertionError


def _allow_timestamp_ntz(table: DeltaTable) -> None:
    """Let the table have TIMESTAMP_NTZ columns: a commit of its own, which deltalake does not make by itself."""
    if "timestampNtz" not in (table.protocol().writer_features or ()):
        table.alter.add_feature(TableFeatures.TimestampWithoutTimezone, allow_protocol_versions_increase=True)


def _is_outdated(root: str, table: DeltaTable | None) -> bool:
    """Whether another commit was made since `table` was opened."""
    now = open_table(root)
    return now is not None and (table is None or now.version() > table.version())


def _version_of(root: str, build: str) -> int:
    """The version whose log entry has this build id."""
    files, folder = filesystem(root)
    for version in range(DeltaTable(root).version(), -1, -1):
        with files.open_input_stream(f"{folder}/{LOG}/{version:020d}.json") as entry:
            if build.encode() in entry.read():
                return version
    raise AssertionError(build)
