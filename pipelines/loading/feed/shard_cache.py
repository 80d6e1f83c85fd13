"""A cache of open shards: threads read ahead while the byte budget has room; a shard leaves with its last user."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from headrace.loading.feed.stats import Stats
from headrace.loading.feed.threads import join
from headrace.loading.shard.budget import Budget
from headrace.loading.shard.read import Shard


class Closed(Exception):
    """The loader is closing: threads that wait for a shard stop."""


class _Entry:
    def __init__(self, number: int, size: int) -> None:
        self.number, self.size = number, size
        self.users = 0
        self.reserved = 0
        self.urgent = False
        self.shard: Shard | None = None
        self.error: BaseException | None = None


class ShardCache:
    """Shards by number. `acquire` and `release` count the users of a shard; `get` waits until it is read.

    A shard that somebody waits for is read at once. The others are read in the order they were acquired, and only if
    they fit in the budget.
    """

    def __init__(
        self,
        read: Callable[[int], Shard],
        size: Callable[[int], int],
        budget: Budget,
        stats: Stats,
        *,
        growth: float,
        readers: int,
        keep: bool,
    ) -> None:
        """`size` gives the bytes of a shard's file; `growth` is how many bytes of memory are planned for each of them.

        If a shard takes more, more is planned for the shards after it.
        """
        self._read, self._size, self._budget, self._stats, self._keep = read, size, budget, stats, keep
        self._growth = growth
        self._entries: dict[int, _Entry] = {}
        self._waiting: dict[int, _Entry] = {}
        self._closed = False
        self._broken: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._run, name=f"headrace-read-{number}", daemon=True) for number in range(readers)
        ]
        for thread in self._threads:
            thread.start()

    def acquire(self, number: int) -> None:
        """Ask for shard `number` to be read soon. It stays until `release` has been called as often as `acquire`."""
        with self._budget.changed:
            entry = self._entries.get(number)
            if entry is None:
                entry = self._entries[number] = self._waiting[number] = _Entry(number, self._size(number))
                self._budget.changed.notify_all()
            entry.users += 1

    def get(self, number: int) -> Shard:
        """Shard `number`, acquired before.

        Raises what `read` raised, Closed if the loader is closing, and the error by which a reading thread ended.
        """
        with self._budget.changed:
            entry = self._entries[number]
            if entry.shard is None and entry.error is None:
                entry.urgent = True
                self._budget.changed.notify_all()
            while entry.shard is None and entry.error is None:
                if self._closed:
                    raise Closed
                if self._broken is not None:
                    raise self._broken
                self._budget.changed.wait()
            if entry.error is not None:
                raise entry.error
            assert entry.shard is not None
            return entry.shard

    def release(self, number: int) -> None:
        """Give up one use of shard `number`; without users it leaves the cache, unless the cache keeps everything.

        A shard that could not be read always leaves, so that it is tried again in the next epoch.
        """
        with self._budget.changed:
            entry = self._entries[number]
            entry.users -= 1
            if not entry.users and (not self._keep or entry.error is not None):
                del self._entries[number]
                self._waiting.pop(number, None)

    def close(self) -> None:
        """End the reading threads. Threads that wait in `get` raise Closed."""
        with self._budget.changed:
            self._closed = True
            self._waiting.clear()
            self._budget.changed.notify_all()
        join(self._threads)

    def _run(self) -> None:
        try:
            while (entry := self._next()) is not None:
                self._fill(entry)
                del entry
        except BaseException as error:
            with self._budget.changed:
                self._broken = error
                self._budget.changed.notify_all()

    def _next(self) -> _Entry | None:
        with self._budget.changed:
            while not self._closed:
                found = next((entry for entry in self._waiting.values() if entry.urgent), None)
                if found is None and self._waiting:
                    first = next(iter(self._waiting.values()))
                    # another one may be needed at once while this one is held
                    room = self._expected(first) + self._budget.spare
                    found = first if self._budget.fits(room) else None
                if found is not None:
                    del self._waiting[found.number]
                    found.reserved = self._expected(found)
                    self._budget.take(found.reserved)
                    return found
                self._budget.changed.wait()
        return None

    def _expected(self, entry: _Entry) -> int:
        """The bytes a shard is expected to take: its file size times the largest ratio planned or found so far."""
        return int(entry.size * self._growth)

    def _fill(self, entry: _Entry) -> None:
        shard: Shard | None = None
        error: BaseException | None = None
        start = time.perf_counter()
        try:
            shard = self._read(entry.number)
        except BaseException as caught:
            error = caught
        self._stats.add(read_seconds=time.perf_counter() - start, shards=1, bytes_read=entry.size)
        with self._budget.changed:
            self._budget.give(entry.reserved)
            if shard is not None and entry.size:
                self._growth = max(self._growth, shard.lease.count / entry.size)
                self._budget.spare = max(self._budget.spare, self._expected(entry))
            entry.shard, entry.error = shard, error
            self._budget.changed.notify_all()
