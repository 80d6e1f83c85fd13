"""A limit on time and memory for tests of hostile files."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LARGEST = 200 << 20


@contextmanager
def bounded() -> Iterator[None]:
    """Fail if the body hangs or takes more than 200 MB."""

    def hung(*_: object) -> None:
        raise AssertionError("this hangs")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(20)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    held = _status("VmRSS")
    try:
        yield
        assert _status("VmHWM") - held < LARGEST
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))
