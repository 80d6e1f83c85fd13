"""From the order to finished batches: one thread plans blocks and hands their tasks to a pool of decoding threads.

A bounded queue holds the batches that are ready or in progress.
"""

from __future__ import annotations

import atexit
import threading
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import torch

from headrace.errors import DataError
from headrace.loading.feed.block import Batch, Block, Collator, Source
from headrace.loading.feed.collate import Pending
from headrace.loading.feed.shard_cache import Closed, ShardCache
from headrace.loading.feed.stats import Stats
from headrace.loading.feed.threads import Pool, join, stacks
from headrace.loading.feed.windows import Windows
from headrace.loading.order.order import RankOrder, Window
from headrace.loading.shard.budget import Budget, Lease

_CHUNKS_PER_THREAD = 2
_running: weakref.WeakSet[Feed] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """End the threads of iterations that never finished, while the interpreter still can."""
    for feed in list(_running):
        feed.close()


@dataclass(frozen=True)
class Cuts:
    """Where a rank's samples are cut into batches, counted in samples that the rank reads."""

    batches: int | None
    """the number of batches; None: endless"""
    begin: Callable[[int], int]
    """the rank's sample at which batch n begins"""
    largest: int
    """the number of samples in the largest batch"""
    block: int
    """the number of batches that are gathered together"""
    first: int = 0
    """the number of batches at the start of the first block that are skipped"""


class Feed:
    """Makes the batches of one rank ahead of time, in order, in threads that run until `close`."""

    def __init__(
        self,
        order: RankOrder,
        collator: Collator,
        shard_cache: ShardCache,
        budget: Budget,
        stats: Stats,
        cuts: Cuts,
        *,
        base: int,
        threads: int,
        depth: int,
        timeout: float,
        on_unreadable: Callable[[DataError, int], None] | None,
    ) -> None:
        """Start the threads.

        `base` is added to every position. `depth` is the number of batches to make ahead. `on_unreadable` is called
        with the error and the number of lost samples when a shard cannot be read; None raises the error instead.
        """
        self._order, self._collator, self._shard_cache, self._budget = order, collator, shard_cache, budget
        self._stats, self._cuts, self._base, self._timeout = stats, cuts, base, timeout
        self._on_unreadable = on_unreadable
        self._chunk = max(1, -(-cuts.largest // (threads * _CHUNKS_PER_THREAD)))
        # without decoding, a whole block is finished at once, so the next one must be under way by then
        self._depth = depth if collator.decode else max(depth, 2 * cuts.block)
        self._slots = threading.Semaphore(self._depth)
        self._queue: SimpleQueue[Pending | Exception] = SimpleQueue()
        self._closed = threading.Event()
        self._pool = Pool(threads, "headrace-decode")
        self._thread = threading.Thread(target=self._run, name="headrace-feed", daemon=True)
        _running.add(self)
        self._thread.start()

    def next(self) -> Batch:
        """The next batch. Raises the exception of a thread, or TimeoutError with a stack trace of every thread."""
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
        """End every thread. Calling it again does nothing."""
        if self._closed.is_set():
            return
        self._closed.set()
        self._slots.release()
        self._shard_cache.close()
        self._pool.close()
        join([self._thread])

    def _stuck(self) -> TimeoutError:
        return TimeoutError(f"no batch for {self._timeout:g} seconds; what each thread is doing:\n{stacks()}")

    def _run(self) -> None:
        try:
            self._feed()
        except Closed:
            return
        except Exception as error:
            self._queue.put(error)

    def _feed(self) -> None:
        cuts = self._cuts
        windows = Windows(self._order, self._shard_cache, self._on_unreadable)
        current: dict[int, Window] = {}
        queue = Lease(self._budget)
        number = 0
        while cuts.batches is None or number < cuts.batches:
            count = cuts.block if cuts.batches is None else min(cuts.block, cuts.batches - number)
            starts = [cuts.begin(place) for place in range(number, number + count + 1)]
            block = self._block(starts[0], starts[-1], windows, current)
            self._pool.submit(block.gather)
            for place in range(count):
                if number + place < cuts.first:
                    continue
                self._slots.acquire()
                if self._closed.is_set():
                    return
                start, stop = (min(one - starts[0], len(block.rows)) for one in starts[place : place + 2])
                pending = Pending(block, place, start, stop, self._chunk)
                # the memory of a full queue is reserved from the first batch on, and grows with the largest one
                queue.grow(max(0, self._depth * pending.nbytes - queue.count))
                tasks = pending.tasks()
                self._queue.put(pending)
                del pending
                for task in tasks:
                    self._pool.submit(task)
                del tasks
            del block
            number += count

    def _block(self, start: int, stop: int, windows: Windows, current: dict[int, Window]) -> Block:
        sources: list[Source] = []
        for segment in self._order.segments(start, stop - start, current):
            sources += windows.sources(segment)
        positions = self._order.positions(start, stop - start) + self._base
        return Block(self._collator, sources, positions, self._cuts.largest)


def to_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """`batches` with their tensors on `device`. The copy of the next batch starts before this one is yielded.

    On CUDA the copies run on their own stream, from pinned memory, so they overlap with the caller's computation.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    coming = [_send(next(batches, None), device, stream)]
    while (batch := coming.pop()) is not None:
        coming.append(_send(next(batches, None), device, stream))
        if stream is not None:
            _arrive(batch, stream)
        yield batch


def _send(batch: Batch | None, device: torch.device, stream: torch.cuda.Stream | None) -> Batch | None:
    """Start copying a batch. The pinned tensors may be freed at once: PyTorch's cache waits for the stream."""
    if batch is None:
        return None
    with torch.cuda.stream(stream):
        return {name: _to(value, device) for name, value in batch.items()}


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value


def _arrive(batch: Batch, stream: torch.cuda.Stream) -> None:
    """Make the caller's stream wait for the copies, and keep their memory until that stream has used them."""
    current = torch.cuda.current_stream(stream.device)
    current.wait_stream(stream)
    for value in batch.values():
        if isinstance(value, torch.Tensor):
            value.record_stream(current)
