"""From the order to ready batches: one thread lays them out and hands them to the decoders, a bounded queue ahead."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np

from pipelines.errors import DataError
from pipelines.loading.budget import Budget, Lease
from pipelines.loading.collate import Batch, Collator, Pending, Source
from pipelines.loading.hashing import Stream, hashes_at, mix
from pipelines.loading.order import RankOrder, Segment, Window
from pipelines.loading.read import Shard
from pipelines.loading.shelf import Closed, Shelf
from pipelines.loading.stats import Stats
from pipelines.loading.threads import Pool, join, stacks

_CHUNKS_PER_THREAD = 2
_running: weakref.WeakSet[Feed] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """End the threads of loops that were never finished, while the interpreter can still do it."""
    for feed in list(_running):
        feed.close()


@dataclass
class _Open:
    """A window whose shards are in memory."""

    window: Window
    which: np.ndarray
    sample: np.ndarray
    shards: list[Shard | None]


class Windows:
    """The windows that a rank has open, one a track, with the next of each track read ahead."""

    def __init__(
        self, order: RankOrder, shelf: Shelf, lost: Callable[[DataError, int], None] | None, draws: bool
    ) -> None:
        """`lost` is told of a shard that cannot be read and how many samples that costs; None: raise.

        `draws`: give each sample random bits of its own, a function of (seed, epoch, sample).
        """
        self._order, self._shelf, self._lost, self._draws = order, shelf, lost, draws
        self._open: dict[int, _Open] = {}
        self._ahead: dict[int, Window] = {}
        for track in range(order.tracks):
            position = order.origin + order.rank + track * order.world_size
            if order.order.total is None or position < order.order.total:
                self._want(track, order.order.window_at(position))

    def sources(self, segment: Segment) -> list[Source]:
        """The rows that a segment stands for; none of a shard that is lost."""
        opened = self._open.get(segment.track)
        if opened is None or opened.window is not segment.window:
            opened = self._move(segment.track, segment.window)
        sample = opened.sample[segment.places]
        if len(opened.shards) == 1:
            return self._source(opened, 0, sample, segment.dest)
        which = opened.which[segment.places]
        dest = np.arange(segment.dest.start, segment.dest.stop, segment.dest.step)
        found = []
        for number in np.unique(which).tolist():
            mine = which == number
            found += self._source(opened, number, sample[mine], dest[mine])
        return found

    def _source(self, opened: _Open, number: int, sample: np.ndarray, dest: slice | np.ndarray) -> list[Source]:
        shard = opened.shards[number]
        if shard is None:
            return []
        epoch, piece = opened.window.epoch, opened.window.pieces[number]
        draws = None
        if self._draws:
            draws = hashes_at(mix(self._order.order.seed, Stream.GEOMETRY, epoch, piece.shard), sample)
        return [Source(shard, shard.samples.rows(sample, epoch), dest, draws)]

    def _want(self, track: int, window: Window) -> None:
        self._ahead[track] = window
        for piece in window.pieces:
            self._shelf.want(piece.shard)

    def _move(self, track: int, window: Window) -> _Open:
        """Open `window` in place of the track's last one, and have the one after it read ahead."""
        old = self._open.pop(track, None)
        for piece in old.window.pieces if old else ():
            self._shelf.drop(piece.shard)
        ahead = self._ahead.pop(track, None)
        if ahead is None or ahead.first != window.first:
            self._want(track, window)
            del self._ahead[track]
        following = self._order.following(window)
        if following is not None:
            self._want(track, following)
        which, sample = window.samples()
        shards = [self._get(piece.shard, piece.stop - piece.start) for piece in window.pieces]
        opened = self._open[track] = _Open(window, which, sample, shards)
        return opened

    def _get(self, number: int, samples: int) -> Shard | None:
        try:
            return self._shelf.get(number)
        except DataError as error:
            if self._lost is None:
                raise
            self._lost(error, samples)
            return None


class Feed:
    """Batches of one rank, in order, made ahead by threads until `close`."""

    def __init__(
        self,
        order: RankOrder,
        collator: Collator,
        shelf: Shelf,
        budget: Budget,
        stats: Stats,
        *,
        batches: int | None,
        batch_size: int,
        base: int,
        threads: int,
        depth: int,
        timeout: float,
        lost: Callable[[DataError, int], None] | None,
    ) -> None:
        """`batches`: how many, None for no end. `base` is added to positions. `depth`: batches made ahead."""
        self._order, self._collator, self._shelf, self._budget = order, collator, shelf, budget
        self._stats = stats
        self._batches, self._batch_size, self._base, self._timeout, self._lost = (
            batches,
            batch_size,
            base,
            timeout,
            lost,
        )
        self._chunk = max(4, -(-batch_size // (threads * _CHUNKS_PER_THREAD)))
        self._depth = depth
        self._slots = threading.Semaphore(depth)
        self._queue: SimpleQueue[Pending | Exception] = SimpleQueue()
        self._closed = threading.Event()
        self._pool = Pool(threads, "headrace-decode")
        self._thread = threading.Thread(target=self._run, name="headrace-feed", daemon=True)
        _running.add(self)
        self._thread.start()

    def next(self) -> Batch:
        """The next batch. Raises what went wrong in a thread, or TimeoutError with a dump of every thread."""
        self._stats.queue_depth = self._queue.qsize()
        self._stats.bytes_peak = max(self._stats.bytes_peak, self._budget.peak)
        try:
            pending = self._queue.get(timeout=self._timeout)
        except Empty:
            raise self._stuck() from None
        if isinstance(pending, Exception):
            raise pending
        if not pending.wait(self._timeout):
            raise self._stuck()
        batch = pending.result()
        self._slots.release()
        self._stats.add(samples=pending.samples, batches=1)
        return batch

    def close(self) -> None:
        """End every thread. May be called again."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._slots.release()
        self._shelf.close()
        self._pool.close()
        join([self._thread])

    def _stuck(self) -> TimeoutError:
        return TimeoutError(f"no batch for {self._timeout:g} seconds; what each thread does:\n{stacks()}")

    def _run(self) -> None:
        try:
            windows = Windows(self._order, self._shelf, self._lost, self._collator.geometry.random)
            current: dict[int, Window] = {}
            queue = Lease(self._budget)
            number = 0
            while self._batches is None or number < self._batches:
                self._slots.acquire()
                if self._closed.is_set():
                    return
                pending = self._lay_out(number, windows, current)
                tasks = pending.tasks()
                # the memory of a full queue is set aside from the first batch on, and grows with the largest
                queue.grow(max(0, self._depth * pending.nbytes - queue.count))
                for task in tasks:
                    self._pool.submit(task)
                self._queue.put(pending)
                del pending
                number += 1
        except Closed:
            return
        except Exception as error:
            self._queue.put(error)

    def _lay_out(self, number: int, windows: Windows, current: dict[int, Window]) -> Pending:
        sources: list[Source] = []
        for segment in self._order.segments(number, self._batch_size, current):
            sources += windows.sources(segment)
        positions = self._order.positions(number, self._batch_size) + self._base
        return Pending(self._collator, sources, positions, self._chunk)
