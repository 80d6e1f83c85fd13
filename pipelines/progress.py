"""Progress of long-running work: a bar on a terminal, or a plain line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 10.0


class Bar:
    """What `progress` yields. Call `advance` as work gets done; its keyword arguments are shown after the count."""

    def __init__(self, name: str, total: int | None, unit: str) -> None:
        self.name, self.total, self.unit = name, total, unit
        self.done = 0
        self.fields = ""
        self._started = time.monotonic()

    def advance(self, count: int = 1, **fields: object) -> None:
        """Count `count` more units as done and show `fields` as `name value` pairs."""
        self.done += count
        if fields:
            self.fields = "  ".join(f"{name} {value}" for name, value in fields.items())
        self._show()

    def _show(self) -> None:
        raise NotImplementedError

    def line(self) -> str:
        """The state of the work as one plain line."""
        of = f"/{self.total:,}" if self.total else ""
        seconds = time.monotonic() - self._started
        return f"{self.name}: {self.done:,}{of} {self.unit}  {self.fields}  {seconds:.0f} s".replace("    ", "  ")


class _TerminalBar(Bar):
    def __init__(self, name: str, total: int | None, unit: str, bars: Progress) -> None:
        super().__init__(name, total, unit)
        self._bars = bars
        self._task = bars.add_task(name, total=total, fields="", unit=unit)

    def _show(self) -> None:
        self._bars.update(self._task, completed=self.done, total=self.total, fields=self.fields)


class _LogBar(Bar):
    _shown = 0.0
    _state: tuple[int, int | None, str] | None = None

    def _show(self) -> None:
        if time.monotonic() - self._shown >= LINE_EVERY_SECONDS:
            self.print()

    def print(self) -> None:
        """Print the state, unless it was the last one printed."""
        state = (self.done, self.total, self.fields)
        if state != self._state:
            self._shown, self._state = time.monotonic(), state
            print(self.line(), file=sys.stderr, flush=True)


@contextmanager
def progress(name: str, total: int | None = None, unit: str = "steps", shown: bool = True) -> Iterator[Bar]:
    """Show the progress of one piece of work on stderr.

    `total` is None if it is not known. With `shown=False` (for ranks other than the first) the bar counts but shows
    nothing. A terminal gets a live bar, and lines printed meanwhile appear above it, unwrapped. Anything else gets at
    most one line every 10 seconds, and one at the end.
    """
    console = Console(stderr=True, quiet=not shown, soft_wrap=True)
    if shown and not console.is_terminal:
        bar = _LogBar(name, total, unit)
        try:
            yield bar
        finally:
            bar.print()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}", markup=False),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[fields]}", markup=False),
    )
    # The bar redirects stdout only if it is a terminal too. A file or pipe gets its lines directly.
    with Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty()) as bars:
        yield _TerminalBar(name, total, unit, bars)
