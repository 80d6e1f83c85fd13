"""What a Delta table asks of its reader, and where its files are: the same for builds, loading and reports.

The rules are those of github.com/delta-io/delta, PROTOCOL.md.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote

if TYPE_CHECKING:
    from deltalake import DeltaTable

READER_VERSIONS = range(1, 4)
# Features under which rows and columns are still what plain Parquet files hold.
READER_FEATURES = frozenset({"columnMapping", "timestampNtz", "v2Checkpoint", "vacuumProtocolCheck"})
_MAPPING = "delta.columnMapping.mode"
URI = "^[A-Za-z][A-Za-z0-9+.-]*:/"


def unknown_features(version: int, features: Collection[str] | None, configuration: Mapping[str, str]) -> list[str]:
    """What a table asks of its reader that headrace does not know, sorted; empty if it can be read.

    `version` and `features` are the protocol's `minReaderVersion` and `readerFeatures`. Column mapping may be listed,
    or come with version 2, as long as the table's configuration does not use it.
    """
    unknown = set(features or ()) - READER_FEATURES
    if version not in READER_VERSIONS:
        unknown.add(f"minReaderVersion {version}")
    if version >= 3 and features is None:
        unknown.add(f"minReaderVersion {version} without readerFeatures")
    if (mode := configuration.get(_MAPPING, "none")) != "none":
        unknown.add(f"columnMapping ({_MAPPING} = {mode})")
    return sorted(unknown)


def asked(table: DeltaTable) -> tuple[int, list[str] | None, Mapping[str, str]]:
    """What `table` asks of its reader, as `unknown_features` takes it."""
    protocol = table.protocol()
    return protocol.min_reader_version, protocol.reader_features, table.metadata().configuration


def is_uri(path: str) -> bool:
    """Whether the path of a file in a log is a URI; Hadoop writes those of local files as `file:/…`."""
    return re.match(URI, path) is not None


def file_path(stored: str) -> str:
    """The path of a file that a log stores, which is percent-encoded: relative to the table, absolute, or a URI.

    Raises ValueError if it names no file, or if it is relative and leaves the table.
    """
    path = unquote(stored)
    if not path or "\0" in path:
        raise ValueError(f"found the path {stored!r} of a file, expected a name")
    if not path.startswith("/") and not is_uri(path) and ".." in path.split("/"):
        raise ValueError(f"found the path {stored!r} of a file, expected one inside the table")
    return path
