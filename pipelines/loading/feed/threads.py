"""Daemon threads that end on request, and a dump of what all threads are doing."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable
from queue import SimpleQueue

JOIN_SECONDS = 5.0


class Pool:
    """A fixed number of daemon threads that run tasks in the order they were submitted."""

    def __init__(self, count: int, name: str) -> None:
        self._tasks: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=_work, args=(self._tasks, self._closed), name=f"{name}-{number}", daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Callable[[], None]) -> None:
        """Run `task` in a thread; it handles its own exceptions."""
        self._tasks.put(task)

    def close(self) -> None:
        """Drop tasks that have not started, and wait for those that have."""
        self._closed.set()
        for _ in self._threads:
            self._tasks.put(None)
        join(self._threads)


def _work(tasks: SimpleQueue[Callable[[], None] | None], closed: threading.Event) -> None:
    while (task := tasks.get()) is not None:
        if not closed.is_set():
            task()
        del task


def join(threads: list[threading.Thread]) -> None:
    """Wait up to 5 seconds for each thread; one that is stuck is left behind."""
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join(JOIN_SECONDS)


def stacks() -> str:
    """The current stack trace of each thread of the process, as one text."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = []
    for ident, frame in sys._current_frames().items():
        parts.append(f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}")
    return "\n".join(parts)
