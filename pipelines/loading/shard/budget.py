"""The byte budget of a loader: how many bytes it holds, and its limit."""

from __future__ import annotations

import threading


class Budget:
    """Counts the bytes held against a limit. Threads that need room wait on `changed`."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.held = 0
        self.peak = 0
        self.spare = 0
        """bytes that decoded images must leave free for the next shard that is needed at once"""
        self.changed = threading.Condition()

    def fits(self, count: int) -> bool:
        """Whether `count` more bytes stay within the limit."""
        return self.held + count <= self.limit

    def take(self, count: int) -> None:
        """Count `count` more bytes as held."""
        with self.changed:
            self.held += count
            self.peak = max(self.peak, self.held)

    def give(self, count: int) -> None:
        """Count `count` bytes as free again, and wake the threads that wait."""
        with self.changed:
            self.held -= count
            self.changed.notify_all()


class Lease:
    """Bytes held for as long as this object lives."""

    def __init__(self, budget: Budget, count: int = 0) -> None:
        self._budget = budget
        self.count = 0
        self.grow(count)

    def grow(self, count: int) -> None:
        """Hold `count` more bytes, or fewer if `count` is negative. The limit is not checked."""
        if count >= 0:
            self._budget.take(count)
        else:
            self._budget.give(-count)
        self.count += count

    def try_grow(self, count: int) -> bool:
        """Hold `count` more bytes if that leaves the spare bytes free; returns whether it does."""
        with self._budget.changed:
            if not self._budget.fits(count + self._budget.spare):
                return False
            self.grow(count)
            return True

    def __del__(self) -> None:
        self._budget.give(self.count)
