"""The threads of this Python process, of the driver's JVM and, if asked, of the executors, in one table."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from headrace.udfs.registration import bridge

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

THREADS = "headrace.bridge.Threads"
PYTHON, DRIVER = "python", "driver"
TASKS = Path("/proc/self/task")
STATES = {"R": "RUNNABLE", "S": "WAITING", "D": "WAITING (DISK)", "T": "STOPPED", "Z": "TERMINATED"}


@dataclass(frozen=True)
class Thread:
    """One thread.

    process: "python", "driver", or "executor" and its number.
    state: in Java's words; for a Python thread, the kernel's state of it, or "" if the system does not report it.
    cpu_seconds: time on a CPU since it started; None if the system does not report it.
    held, awaited: locks of the JVM; "" for Python threads, as Python does not report locks.
    frame: the function it is in.
    """

    process: str
    name: str
    id: int
    state: str
    daemon: bool
    cpu_seconds: float | None
    held: str
    awaited: str
    frame: str
    deadlocked: bool


def threads(spark: SparkSession | None = None, executors: bool = False) -> list[Thread]:
    """The threads of this process and, given a session, of its driver: deadlocked ones first, then by CPU time.

    `executors` adds the threads of the executors; this runs a job with one short task for each core.
    """
    found = _python_threads()
    if spark is not None:
        java = bridge(spark, THREADS)
        found += [Thread(DRIVER, **entry) for entry in json.loads(java.here())]
        if executors:
            by_executor = json.loads(java.ofExecutors(spark._jsparkSession))
            for number, listed in by_executor.items():
                found += [Thread(f"executor {number}", **entry) for entry in json.loads(listed)]
    return sorted(found, key=lambda thread: (not thread.deadlocked, -(thread.cpu_seconds or 0), thread.name))


def _python_threads() -> list[Thread]:
    """Python's own threads, and the native ones that its libraries started."""
    frames = sys._current_frames()
    own = [
        Thread(
            process=PYTHON,
            name=thread.name,
            id=thread.native_id or 0,
            state=_kernel(thread.native_id)[0],
            daemon=thread.daemon,
            cpu_seconds=_kernel(thread.native_id)[1],
            held="",
            awaited="",
            frame=_where(frames.get(thread.ident or 0)),
            deadlocked=False,
        )
        for thread in threading.enumerate()
    ]
    known = {thread.id for thread in own}
    return own + [_native(number) for number in _native_ids() if number not in known]


def _native_ids() -> list[int]:
    return [int(task.name) for task in TASKS.iterdir()] if TASKS.is_dir() else []


def _native(number: int) -> Thread:
    state, cpu = _kernel(number)
    try:
        name = (TASKS / str(number) / "comm").read_text().strip()
    except OSError:
        name = ""  # it has ended
    return Thread(PYTHON, name, number, state, True, cpu, "", "", "(native)", False)


def _kernel(number: int | None) -> tuple[str, float | None]:
    """State and CPU seconds of a thread, from Linux's /proc (proc(5): fields 3, 14 and 15 of stat)."""
    try:
        fields = (TASKS / str(number) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", None
    return STATES.get(fields[0], fields[0]), (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _where(frame: FrameType | None) -> str:
    if frame is None:
        return ""
    return f"{frame.f_code.co_qualname} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"


def table(listed: Iterable[Thread]) -> Table:
    """Threads as a table for a terminal; cells are plain text, so `[brackets]` in names are not treated as markup."""
    grid = Table()
    for heading in ("process", "name", "state", "daemon", "CPU s", "lock held", "lock awaited", "top frame"):
        grid.add_column(heading, overflow="fold", justify="right" if heading == "CPU s" else "left")
    for thread in listed:
        cells = (
            thread.process,
            thread.name,
            "DEADLOCKED" if thread.deadlocked else thread.state,
            "yes" if thread.daemon else "no",
            "" if thread.cpu_seconds is None else f"{thread.cpu_seconds:.2f}",
            thread.held,
            thread.awaited,
            thread.frame,
        )
        grid.add_row(*map(Text, cells), style="bold red" if thread.deadlocked else None)
    return grid
