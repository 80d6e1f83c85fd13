"""Removing files that no version of a dataset names: what killed builds left behind."""

import time

from deltalake import DeltaTable
from pyarrow import fs

from pipelines.dataset.commit import SHARD, open_table
from pipelines.dataset.files import filesystem

GRACE_HOURS = 24.0


def vacuum(root: str, grace_hours: float = GRACE_HOURS) -> list[str]:
    """Delete shards that no version names and that are older than `grace_hours`; returns their paths.

    Younger ones may belong to a build that is still running. Files that no build wrote are left alone.
    """
    files, folder = filesystem(root)
    if files.get_file_info(folder).type != fs.FileType.Directory:
        return []
    oldest = time.time() - grace_hours * 3600
    named = _named(root)
    removed = []
    for entry in files.get_file_info(fs.FileSelector(folder)):
        ours = entry.is_file and SHARD.fullmatch(entry.base_name) is not None
        if ours and entry.base_name not in named and entry.mtime.timestamp() <= oldest:
            files.delete_file(entry.path)
            removed.append(entry.base_name)
    return sorted(removed)


def _named(root: str) -> set[str]:
    """The files that any version in the log names."""
    table = open_table(root)
    if table is None:
        return set()
    versions = [entry["version"] for entry in table.history() if "version" in entry]
    return {uri.rpartition("/")[2] for v in versions for uri in DeltaTable(root, version=v).file_uris()}
