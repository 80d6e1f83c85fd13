"""The Delta log as the output committer: files appear to readers in one transaction or not at all."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions
from pyarrow import fs

from pipelines.dataset.files import filesystem
from pipelines.errors import RecipeError

LOG = "_delta_log"
OURS = re.compile(r"shard-\d+-[0-9a-f]+-\d+\.parquet|_headrace|_delta_log")


@dataclass(frozen=True)
class File:
    """One shard that a task wrote: name under the root, rows, bytes, Delta's statistics as JSON."""

    path: str
    rows: int
    size: int
    stats: str


def check_output(root: str) -> None:
    """Raise RecipeError if `root` holds anything but a Delta table or what a broken build left there."""
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
    if other := sorted(name for name in names if not OURS.fullmatch(name)):
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


def commit(root: str, schema: pa.Schema, files: Sequence[File], metadata: Mapping[str, str]) -> int:
    """Make `files` the whole content of the table at `root` in one transaction; returns its version."""
    now = int(time.time() * 1000)
    actions = [AddAction(file.path, file.size, {}, now, True, file.stats) for file in files]
    properties = CommitProperties(custom_metadata=dict(metadata))
    delta_schema = Schema.from_arrow(schema)
    table = open_table(root)
    if table is None:
        create_table_with_add_actions(root, delta_schema, actions, mode="error", commit_properties=properties)
    else:
        table.create_write_transaction([*actions], "overwrite", delta_schema, commit_properties=properties)
    return DeltaTable(root).version()


def forget(root: str, paths: Sequence[str]) -> None:
    """Delete files that no version names."""
    files, folder = filesystem(root)
    for path in paths:
        files.delete_file(f"{folder}/{path}")


def make_folder(root: str) -> None:
    """Make the folder `root` where the file system has folders."""
    files, folder = filesystem(root)
    files.create_dir(folder, recursive=True)


def write_text(root: str, path: str, text: str) -> None:
    """Write `text` to `root`/`path`, whose folder is made."""
    files, folder = filesystem(root)
    files.create_dir(f"{folder}/{path}".rpartition("/")[0], recursive=True)
    with files.open_output_stream(f"{folder}/{path}") as stream:
        stream.write(text.encode())
