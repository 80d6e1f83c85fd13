"""From the order to ready batches: one thread lays them out and hands them to the decoders, a bounded queue ahead."""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from pipelines.errors import DataError
from pipelines.loading.block import Batch, Block, Collator, Source
from pipelines.loading.budget import Budget, Lease
from pipelines.loading.collate import Pending
from pipelines.loading.order import RankOrder, Window
from pipelines.loading.shelf import Closed, Shelf
from pipelines.loading.stats import Stats
from pipelines.loading.threads import Pool, join, stacks
from pipelines.loading.windows import Windows

_CHUNKS_PER_THREAD = 2
_running: weakref.WeakSet[Feed] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """End the threads of loops that were never finished, while the interpreter can still do it."""
    for feed in list(_running):
        feed.close()


@dataclass(frozen=True)
class Cuts:
    """Where the batches of a rank begin, in samples that it reads."""

    batches: int | None
    """how many; None: no end"""
    begin: Callable[[int], int]
    """the rank's sample at which a batch begins"""
    largest: int
    """samples of the largest batch"""
    block: int
    """batches that are laid out together"""
    first: int = 0
    """batches at the beginning of the first block that are not handed out"""


class Feed:
    """Batches of one rank, in order, made ahead by threads until `close`."""

    def __init__(
        self,
        order: RankOrder,
        collator: Collator,
        shelf: Shelf,
        budget: Budget,
        stats: Stats,
        cuts: Cuts,
        *,
        base: int,
        threads: int,
        depth: int,
        timeout: float,
        lost: Callable[[DataError, int], None] | None,
    ) -> None:
        """`base` is added to positions. `depth`: batches made ahead."""
        self._order, self._collator, self._shelf, self._budget = order, collator, shelf, budget
        self._stats, self._cuts, self._base, self._timeout, self._lost = stats, cuts, base, timeout, lost
        self._chunk = max(1, -(-cuts.largest // (threads * _CHUNKS_PER_THREAD)))
        # without decoding, a whole block is done at once, and the next is to be under way by then
        self._depth = depth if collator.decode else max(depth, 2 * cuts.block)
        self._slots = threading.Semaphore(self._depth)
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
            self._feed()
        except Closed:
            return
        except Exception as error:
            self._queue.put(error)

    def _feed(self) -> None:
        cuts = self._cuts
        windows = Windows(self._order, self._shelf, self._lost)
        current: dict[int, Window] = {}
        queue = Lease(self._budget)
        number = 0
        while cuts.batches is None or number < cuts.batches:
            count = cuts.block if cuts.batches is None else min(cuts.block, cuts.batches - number)
            starts = [cuts.begin(place) for place in range(number, number + count + 1)]
            block = self._lay_out(starts[0], starts[-1], windows, current)
            self._pool.submit(block.gather)
            for place in range(count):
                if number + place < cuts.first:
                    continue
                self._slots.acquire()
                if self._closed.is_set():
                    return
                start, stop = (min(one - starts[0], len(block.rows)) for one in starts[place : place + 2])
                pending = Pending(block, place, start, stop, self._chunk)
                # the memory of a full queue is set aside from the first batch on, and grows with the largest
                queue.grow(max(0, self._depth * pending.nbytes - queue.count))
                tasks = pending.tasks()
                self._queue.put(pending)
                del pending
                for task in tasks:
                    self._pool.submit(task)
                del tasks
            del block
            number += count

    def _lay_out(self, start: int, stop: int, windows: Windows, current: dict[int, Window]) -> Block:
        sources: list[Source] = []
        for segment in self._order.segments(start, stop - start, current):
            sources += windows.sources(segment)
        positions = self._order.positions(start, stop - start) + self._base
        return Block(self._collator, sources, positions, self._cuts.largest)
