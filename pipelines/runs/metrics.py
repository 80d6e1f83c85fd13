"""`metrics.jsonl`: one JSON object per step, in complete lines, independent of the clock."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from headrace.errors import DataError


class MetricsFile:
    """The figures of a run, step by step.

    A line is one `write` to a file opened for appending, so readers see whole lines, and a kill leaves at most one
    broken line, at the end. `truncate` removes it when the run resumes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def truncate(self, step: int) -> None:
        """Remove everything after the line of step `step`; 0 empties the file.

        Raises DataError if a line of the steps 1 to `step` is missing.
        """
        size, last = 0, 0
        if step and self.path.exists():
            with self.path.open("rb") as file:
                for line in file:
                    if last == step or not line.endswith(b"\n"):
                        break
                    last += 1
                    if _step(line) != last:
                        raise DataError(f"{self.path}: found another thing at line {last}, expected step {last}")
                    size += len(line)
        if last < step:
            raise DataError(f"{self.path}: found {last} whole lines, expected those of the checkpoint's {step} steps")
        self._open()
        os.ftruncate(self._file(), size)

    def write(self, figures: Mapping[str, float | int | None]) -> None:
        """Append one step's figures, with None for non-finite ones: JSON has no NaN, for which ValueError is raised."""
        os.write(self._file(), json.dumps(dict(figures), allow_nan=False).encode() + b"\n")

    def sync(self) -> None:
        """Force what was written to disk."""
        os.fsync(self._file())

    def close(self) -> None:
        """Close the file; nothing is buffered."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> None:
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def _file(self) -> int:
        self._open()
        assert self._descriptor is not None
        return self._descriptor


def _step(line: bytes) -> int | None:
    """The step of a line; None if it is broken."""
    try:
        figures = json.loads(line)
    except ValueError:
        return None
    return figures.get("step") if isinstance(figures, dict) else None
