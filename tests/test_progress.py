"""Progress without a terminal: plain lines, nothing from hidden bars."""

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
