"""Progress: plain lines without a terminal, a bar on a terminal, nothing from hidden bars."""

import os
import pty
import subprocess
import sys

import pytest

from headrace.progress import progress


def test_a_log_gets_the_state_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Reading", total=3, unit="files") as bar:
        for _ in range(3):
            bar.advance(loss="0.5")
    shown = capsys.readouterr().err
    assert "Reading: 3/3 files  loss 0.5" in shown
    assert "\x1b" not in shown


def test_a_hidden_bar_counts_and_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("Reading", shown=False) as bar:
        bar.advance(2)
    assert bar.done == 2
    assert capsys.readouterr().err == ""


def test_the_last_state_is_shown_when_the_work_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with progress("Reading", total=2, unit="files") as bar:
            bar.advance()
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        work()
    assert "Reading: 1/2 files" in capsys.readouterr().err


def on_a_terminal(code: str, columns: int) -> tuple[str, str]:
    """What `code` writes to stderr, a terminal of so many columns, and to stdout, a pipe."""
    terminal, end = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=end, env=environment, text=True, check=False
    )
    os.close(end)
    seen = b""
    with os.fdopen(terminal, "rb", buffering=0) as file:
        try:
            while more := file.read(65536):
                seen += more
        except OSError:  # the other end is closed and everything is read
            pass
    assert done.returncode == 0, seen
    return seen.decode(), done.stdout


@pytest.mark.parametrize("columns", [40, 200])
def test_lines_printed_beside_a_bar_are_not_wrapped(columns: int) -> None:
    """Paths stay whole, brackets are not markup, and stdout gets its own lines if it is not a terminal."""
    path = f"data/{'long' * 20}/[a]/[bold]x[/bold]"
    code = f"""
import sys
from headrace.progress import progress
with progress("[red]work", 3, "[b]steps") as bar:
    bar.advance(2, file="[a]")
    print("headrace: {path}: broken", file=sys.stderr)
    print("result {path}")
    bar.advance(1)
"""
    terminal, piped = on_a_terminal(code, columns)
    assert f"headrace: {path}: broken\r\n" in terminal
    assert "\x1b[" in terminal, "a bar was drawn"
    assert "[red]work" in terminal
    assert piped == f"result {path}\n"
