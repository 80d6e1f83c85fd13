"""Removing files that no version of a dataset uses: the remains of builds that failed or were killed."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from deltalake import DeltaTable
from pyarrow import fs

from headrace.dataset.storage import filesystem
from headrace.dataset.version.commit import OURS, SHARD, open_table
from headrace.dataset.write.shards import QUARANTINE
from headrace.errors import RecipeError

GRACE_HOURS = 24.0


def vacuum(root: str, grace_hours: float = GRACE_HOURS) -> list[str]:
    """Delete shards that no version uses and that are at least `grace_hours` old; returns their paths under `root`.

    The quarantine table is cleaned as well. Younger shards may belong to a build that is still running. Files that no
    build wrote are left alone. Raises RecipeError if `root` is neither a dataset nor the remains of a first build.
    """
    _check(root)
    oldest = time.time() - grace_hours * 3600
    return [
        f"{folder}/{name}" if folder else name
        for folder in ("", QUARANTINE)
        for name in _removed(f"{root}/{folder}".rstrip("/"), lambda file: file.mtime.timestamp() <= oldest)
    ]


@contextmanager
def discarded_on_failure(root: str, build: str) -> Iterator[None]:
    """If the block fails, delete the shards of `build` that no version uses, those of the quarantine table too.

    A task that is still running may write another one afterwards; `vacuum` removes it.
    """
    try:
        yield
    except BaseException:
        for folder in (root, f"{root}/{QUARANTINE}"):
            _removed(folder, lambda file: f"-{build}-" in file.base_name)
        raise


def _check(root: str) -> None:
    files, folder = filesystem(root)
    kind = files.get_file_info(folder).type
    if kind != fs.FileType.Directory:
        found = "a file" if kind == fs.FileType.File else "nothing"
        raise RecipeError(f"--vacuum: found {found} at {root!r}, expected a dataset")
    names = [entry.base_name for entry in files.get_file_info(fs.FileSelector(folder))]
    if open_table(root) is None and not all(name in OURS or SHARD.fullmatch(name) for name in names):
        raise RecipeError(f"--vacuum: found no Delta log in {root!r}, expected a dataset")


def _removed(root: str, chosen: Callable[[fs.FileInfo], bool]) -> list[str]:
    """Delete the shards in `root` that are `chosen` and that no version uses; returns their names, sorted."""
    files, folder = filesystem(root)
    shards = [
        file
        for file in files.get_file_info(fs.FileSelector(folder, allow_not_found=True))
        if file.is_file and SHARD.fullmatch(file.base_name) and chosen(file)
    ]
    named = _named(root) if shards else set()
    removed = sorted(file.base_name for file in shards if file.base_name not in named)
    for name in removed:
        files.delete_file(f"{folder}/{name}")
    return removed


def _named(root: str) -> set[str]:
    """The names of the files that some version in the log uses."""
    table = open_table(root)
    if table is None:
        return set()
    versions = [entry["version"] for entry in table.history() if "version" in entry]
    return {uri.rpartition("/")[2] for v in versions for uri in DeltaTable(root, version=v).file_uris()}
