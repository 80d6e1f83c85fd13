"""The Delta log as output committer: readers see all files of a build, in one transaction, or none."""

import re
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions
from pyarrow import fs

from headrace.dataset.storage import filesystem
from headrace.errors import RecipeError

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
    """the partition value"""


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
        return DeltaTable(root)
    except DeltaError as error:
        first = str(error).splitlines()[0]
        raise RecipeError(f"dataset.output.path: found a broken Delta log in {root!r}: {first}") from None


def commit(
    root: str,
    schema: pa.Schema,
    files: Sequence[File],
    metadata: Mapping[str, str],
    partition: tuple[str, str] | None = None,
    column: str | None = None,
) -> int:
    """Make `files` the whole content of the table at `root`, or of its `partition` (name, value); returns the version.

    Without `partition`, `column` is the column that the table is partitioned by (None: unpartitioned), and each file
    has a value of it.

    This is one transaction. If another build commits in the meantime, it is retried on top of that commit. Delta's own
    retries are off, because they would let two first builds of a partition keep both sets of files. Raises RecipeError
    if the table is partitioned differently.
    """
    now = int(time.time() * 1000)
    by = [partition[0]] if partition else [column] if column else []
    values = [partition[1] if partition else file.value for file in files]
    actions = [
        AddAction(file.path, file.size, dict.fromkeys(by, value), now, True, file.stats)
        for file, value in zip(files, values, strict=True)
    ]
    for attempt in range(ATTEMPTS):
        build = uuid.uuid4().hex
        properties = CommitProperties({**metadata, BUILD: build}, max_commit_retries=0)
        table = open_table(root)
        try:
            if table is None:
                create_table_with_add_actions(
                    root, Schema.from_arrow(schema), actions, partition_by=by, commit_properties=properties
                )
            else:
                _check_partitioning(root, table, by)
                table.create_write_transaction(
                    [*actions],
                    "overwrite",
                    Schema.from_arrow(schema),
                    partition_by=by,
                    partition_filters=[(partition[0], "=", partition[1])] if partition else None,
                    commit_properties=properties,
                )
        except DeltaError:
            if attempt == ATTEMPTS - 1 or not _is_outdated(root, table):
                raise
            continue
        return _version_of(root, build)
    raise AssertionError


def _check_partitioning(root: str, table: DeltaTable, by: list[str]) -> None:
    found = table.metadata().partition_columns
    if found != by:
        raise RecipeError(
            f"dataset.output.partition: found {by[0] if by else None!r}, expected "
            f"{found[0] if found else None!r}, the partition of the table at {root!r}"
        )


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
