"""A block: the samples of several consecutive batches, gathered together so that each shard is visited once."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from headrace.images.pixels import Mode
from headrace.loading.feed.stats import Stats
from headrace.loading.order.hashing import Stream, hashes_at, mix
from headrace.loading.shard.columns import Dest, Field, null_at
from headrace.loading.shard.geometry import Buckets, Geometry
from headrace.loading.shard.memory import Memory
from headrace.loading.shard.read import Shard

Policy = Literal["fail", "skip", "replace"]
Batch = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """Rows of one shard that go to places `dest` of a block."""

    shard: Shard
    rows: np.ndarray
    dest: Dest
    sample: np.ndarray
    """the number in the shard of the sample that each row belongs to, int64"""
    origin: tuple[int, int, int]
    """seed, epoch and shard number; a sample's random bits depend on these and its number"""

    def bits(self, stream: Stream, *more: int) -> np.ndarray:
        """64 random bits for each sample, uint64: a function of (seed, epoch, sample)."""
        seed, epoch, number = self.origin
        return hashes_at(mix(seed, stream, epoch, number, *more), self.sample)


@dataclass(frozen=True)
class Collator:
    """How sources become batches."""

    decode: Mapping[str, Mode]
    """columns to decode; a null in the first is a bad sample, in the others a black image that `<column>_mask` marks"""
    fields: Mapping[str, Field]
    geometry: Geometry
    on_bad_sample: Policy
    stats: Stats
    memory: Memory
    drop: Mapping[str, float] = field(default_factory=dict)
    """for each column, the share (0 to 1) of samples that lose its value"""
    buckets: Buckets | None = None
    sample_hook: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """called with each sample, in a worker thread"""
    hook: Callable[[Batch], Batch] | None = None
    """called with each batch, in the thread that completes it"""


class Block:
    """The rows of consecutive batches. `gather` fills `rooms`, one for each field; `when_ready` reports the end."""

    def __init__(self, collator: Collator, sources: Sequence[Source], positions: np.ndarray, batch: int) -> None:
        """`batch` is the number of samples in one batch; only bucketing uses it."""
        self.collator = collator
        length = len(positions)
        self.shards = np.full(length, None)
        self.rows = np.zeros(length, np.int64)
        self.bad = np.ones(length, bool)
        self._sources = list(sources)
        for source in self._sources:
            self.rows[source.dest] = source.rows
            self.shards[source.dest] = source.shard
            self.bad[source.dest] = False
        self.order: np.ndarray | None = None
        self.positions = positions
        self.sizes: np.ndarray | None = None
        if collator.buckets is not None:
            self._sort(collator.buckets, batch)
        self.draws = self._bits(Stream.GEOMETRY) if collator.geometry.random else None
        self.dropped = {name: self._dropped(name, share) for name, share in collator.drop.items()}
        self.rooms: dict[str, Any] = {}
        self.error: BaseException | None = None
        self._waiting: list[Callable[[], None]] = []
        self._ready = False
        self._lock = threading.Lock()

    def when_ready(self, call: Callable[[], None]) -> None:
        """Call `call` once the fields are gathered: in the gathering thread, or at once if that is done."""
        with self._lock:
            if not self._ready:
                self._waiting.append(call)
                return
        call()

    def gather(self) -> None:
        """Gather every field from its shards, then call what `when_ready` registered."""
        try:
            self._gather()
        except BaseException as error:
            self.error = error
        with self._lock:
            self._ready = True
            waiting, self._waiting = self._waiting, []
            self._sources = []
        for call in waiting:
            call()

    def _gather(self) -> None:
        for name, one in self.collator.fields.items():
            room = one.kind.allocate(len(self.rows), self.collator.memory)
            for source in self._sources:
                one.kind.gather(source.shard.values[name], source.rows, room, self._dest(source))
            if name in self.dropped:
                null_at(room, self.dropped[name])
            self.rooms[name] = room

    def _dest(self, source: Source) -> Dest:
        return source.dest if self.order is None else self.order[source.dest]

    def _bits(self, stream: Stream, *more: int) -> np.ndarray:
        bits = np.zeros(len(self.rows), np.uint64)
        for source in self._sources:
            bits[self._dest(source)] = source.bits(stream, *more)
        return bits

    def _dropped(self, name: str, share: float) -> np.ndarray:
        bits = self._bits(Stream.DROP, zlib.crc32(name.encode()))
        return (bits >> np.uint64(11)) / 2.0**53 < share

    def _sort(self, buckets: Buckets, batch: int) -> None:
        """Sort samples by bucket. The size of each batch is that of the bucket most of its samples are in."""
        first = next(iter(self.collator.decode))
        bucket = buckets.of(self.shards, self.rows, first)
        places = np.argsort(bucket, kind="stable")
        self.order = np.empty_like(places)
        self.order[places] = np.arange(len(places))
        self.rows, self.shards, self.bad = self.rows[places], self.shards[places], self.bad[places]
        self.positions, bucket = self.positions[places], bucket[places]
        most = [np.bincount(bucket[start : start + batch]).argmax() for start in range(0, len(bucket), batch)]
        self.sizes = np.array(most, np.int64)
