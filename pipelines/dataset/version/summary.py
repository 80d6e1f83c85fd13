"""What a build did, for the terminal and for the commit's metadata."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from headrace.dataset.partitions import Partition


@dataclass
class Summary:
    """What a build did. With `unchanged` or `dry_run` nothing was written, and `version` is the current version."""

    path: str
    partition: Partition | None = None
    version: int = -1
    unchanged: bool = False
    dry_run: bool = False
    sql: str = ""
    plan: str = ""
    rows_in: int = 0
    rows_named: int = 0
    dropped_rows: dict[str, int] = field(default_factory=dict)
    dropped_captions: dict[str, int] = field(default_factory=dict)
    samples: int = 0
    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    quarantined: bool = False
    shards: int = 0
    images: int = 0
    stored_bytes: int = 0
    media_bytes: int = 0
    by_value: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    absence: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)

    def metadata(self) -> Mapping[str, str]:
        """The counts, for the commit."""
        return {
            "headrace.rows_in": str(self.rows_in),
            "headrace.rows": str(self.rows),
            "headrace.images": str(self.images),
            "headrace.dropped": json.dumps(self.dropped),
            "headrace.dropped_rows": json.dumps(self.dropped_rows),
            "headrace.dropped_captions": json.dumps(self.dropped_captions),
            "headrace.media_bytes": str(self.media_bytes),
            "headrace.stored_bytes": str(self.stored_bytes),
            "headrace.seconds": json.dumps(self.seconds),
        }
