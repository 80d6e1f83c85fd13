"""From the order to ready batches: one thread lays them out and hands them to the decoders, a bounded queue ahead."""

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


def moved(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """`batches` with their tensors on `device`; the next one's copy is begun before this one is handed out.

    On CUDA the copies run on a stream of their own from pinned memory, so they overlap with what the caller computes.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    coming = [_send(next(batches, None), device, stream)]
    while (batch := coming.pop()) is not None:
        coming.append(_send(next(batches, None), device, stream))
        if stream is not None:
            _arrive(batch, stream)
        yield batch


def _send(batch: Batch | None, device: torch.device, stream: torch.cuda.Stream | None) -> Batch | None:
    """Begin the copies of a batch. The pinned tensors may be freed at once: PyTorch's cache waits for the stream."""
    if batch is None:
        return None
    with torch.cuda.stream(stream):
        return {name: _to(value, device) for name, value in batch.items()}


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value


def _arrive(batch: Batch, stream: torch.cuda.Stream) -> None:
    """Have the caller's stream wait for the copies, and keep their memory until that stream is done with it."""
    current = torch.cuda.current_stream(stream.device)
    current.wait_stream(stream)
    for value in batch.values():
        if isinstance(value, torch.Tensor):
            value.record_stream(current)


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
        shard_cache: ShardCache,
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
        self._order, self._collator, self._shard_cache, self._budget = order, collator, shard_cache, budget
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
        self._shard_cache.close()
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
        windows = Windows(self._order, self._shard_cache, self._lost)
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
