"""The versions of a dataset, from its log: the counts of each, and what changed since the previous one."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from deltalake import DeltaTable

SHOWN = 30
MADE_FROM = {"headrace.recipe": "recipe", "headrace.snapshot": "source", "headrace.code": "code"}


@dataclass(frozen=True)
class Version:
    """One version according to the log. Changes are relative to the previous version of the same partition."""

    number: int
    when: str
    partition: str
    rows: str
    images: str
    stored: str
    dropped: str
    changes: str
    query: list[str]
    """the changed lines of the query, as a unified diff"""


def read_versions(path: str) -> list[Version]:
    """The newest 30 versions of the table at `path`, newest first."""
    entries = [entry for entry in DeltaTable(path).history() if "version" in entry]
    before: dict[str, Mapping[str, Any]] = {}
    versions = []
    for entry in reversed(entries):
        partition = str(entry.get("headrace.partition", "null"))
        versions.append(_version(entry, before.get(partition)))
        if "headrace.rows" in entry:
            before[partition] = entry
    return versions[::-1][:SHOWN]


def size_in_words(count: int) -> str:
    """`count` bytes in MB or kB."""
    return f"{count / 1e6:,.1f} MB" if count >= 1e6 else f"{count / 1e3:,.1f} kB"


def _version(entry: Mapping[str, Any], before: Mapping[str, Any] | None) -> Version:
    when = datetime.fromtimestamp(entry["timestamp"] / 1000, UTC).strftime("%Y-%m-%d %H:%M")
    if "headrace.rows" not in entry:
        done = str(entry.get("operation", "unknown")).lower()
        return Version(int(entry["version"]), when, "", "", "", "", "", f"not by headrace: {done}", [])
    partition = json.loads(entry["headrace.partition"])
    dropped = json.loads(entry["headrace.dropped"])
    return Version(
        number=int(entry["version"]),
        when=when,
        partition=f"{partition[0]}={partition[1] or ''}" if partition else "",
        rows=_counted(entry, before, "headrace.rows"),
        images=_counted(entry, before, "headrace.images"),
        stored=size_in_words(int(entry["headrace.stored_bytes"])),
        dropped=", ".join(f"{count:,} {reason}" for reason, count in dropped.items()),
        changes=_changes(entry, before),
        query=_diff(before["headrace.query"], entry["headrace.query"]) if before else [],
    )


def _counted(entry: Mapping[str, Any], before: Mapping[str, Any] | None, name: str) -> str:
    count = int(entry[name])
    more = count - int(before[name]) if before else 0
    return f"{count:,} ({more:+,})" if more else f"{count:,}"


def _changes(entry: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    if before is None:
        return "first build"
    changed = [what for name, what in MADE_FROM.items() if entry.get(name) != before.get(name)]
    return ", ".join(changed) or "nothing recorded in the log"


def _diff(before: str, after: str) -> list[str]:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=1)
    return [line for line in lines if not line.startswith(("---", "+++", "@@"))]
