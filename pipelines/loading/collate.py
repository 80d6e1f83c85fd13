"""A batch in the making: decoded and gathered in pieces by several threads, straight into its own memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any, Literal

import numpy as np
import torch

from pipelines.errors import DataError
from pipelines.loading.columns import Dest, Field
from pipelines.loading.decode import CHANNELS, BadImage, Mode, decode, dimensions
from pipelines.loading.geometry import Geometry
from pipelines.loading.memory import Memory
from pipelines.loading.read import Shard
from pipelines.loading.stats import BadSample, Stats

Policy = Literal["fail", "skip", "replace"]
Batch = dict[str, Any]

POSITION = "_position"
"""the key of the samples' positions in the run"""


@dataclass(frozen=True)
class Source:
    """Rows of one shard that go to `dest` of a batch."""

    shard: Shard
    rows: np.ndarray
    dest: Dest
    draws: np.ndarray | None = None
    """64 random bits for each sample, where its geometry is random"""


@dataclass(frozen=True)
class Collator:
    """How sources become a batch."""

    decode: Mapping[str, Mode]
    """columns to decode; a null in the first is a bad sample, in others a black image, told by `<column>_mask`"""
    fields: Mapping[str, Field]
    geometry: Geometry
    on_bad_sample: Policy
    stats: Stats
    memory: Memory
    hook: Callable[[Batch], Batch] | None = None
    """called with each batch in the thread that completes it"""


class Pending:
    """One batch: its `tasks` may run in any order; the last of them to end completes it."""

    def __init__(self, collator: Collator, sources: list[Source], positions: np.ndarray, chunk: int) -> None:
        self._collator, self._positions = collator, positions
        length = len(positions)
        self._rows = np.zeros(length, np.int64)
        self._draws = np.zeros(length, np.uint64)
        self._shards = np.full(length, None)
        self._bad = np.ones(length, bool)
        for source in sources:
            self._rows[source.dest] = source.rows
            if source.draws is not None:
                self._draws[source.dest] = source.draws
            self._shards[source.dest] = source.shard
            self._bad[source.dest] = False
        self._sources = sources
        self._replaced = False
        self._starts = list(range(0, length, chunk)) if collator.decode and length else [0]
        self._chunk = chunk
        self._left = len(self._starts)
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._error: tuple[int, BaseException] | None = None
        self._batch: Batch = {}
        self._shapes = {name: self._shape(name, mode) for name, mode in collator.decode.items()}
        self.nbytes = sum(prod(shape) for shape in self._shapes.values())
        """bytes of the decoded images"""
        self.samples = 0
        self._rooms: dict[str, np.ndarray] = {}
        scaled = collator.geometry.scaled
        self._decoders = [(name, partial(decode, mode=mode, scaled=scaled)) for name, mode in collator.decode.items()]
        self._masks = {name: np.ones(length, bool) for name in list(collator.decode)[1:]}

    def tasks(self) -> list[partial[None]]:
        """What threads have to run, in any order, for the batch to be done."""
        return [partial(self._run, start) for start in self._starts]

    def wait(self, seconds: float) -> bool:
        """Whether the batch is done within `seconds`."""
        return self._done.wait(seconds)

    def result(self) -> Batch:
        """The batch. Raises what a thread raised."""
        if self._error is not None:
            raise self._error[1]
        return self._batch

    def _shape(self, name: str, mode: Mode) -> tuple[int, int, int, int]:
        height, width = self._collator.geometry.size or self._first_size(name)
        return len(self._rows), CHANNELS[mode], height, width

    def _allocate(self) -> None:
        """Take memory when the first thread comes to this batch: what was given back last is still in its caches."""
        with self._lock:
            if not self._rooms:
                memory = self._collator.memory
                self._rooms = {name: memory.empty(shape, np.dtype(np.uint8)) for name, shape in self._shapes.items()}

    def _first_size(self, name: str) -> tuple[int, int]:
        for shard, row in zip(self._shards, self._rows, strict=True):
            picture = shard.pictures[name].picture_of_row[row] if shard else -1
            if shard and picture >= 0:
                try:
                    return dimensions(shard.pictures[name].encoded(picture))
                except BadImage:
                    continue
        return 0, 0

    def _run(self, start: int) -> None:
        try:
            self._decode_chunk(start)
        except BaseException as error:
            self._fail(start, error)
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            try:
                if self._error is None:
                    self._finish()
            except BaseException as error:
                self._fail(start, error)
            self._shards, self._sources, self._rooms = np.empty(0, object), [], {}
            self._done.set()

    def _fail(self, start: int, error: BaseException) -> None:
        """Keep the error of the chunk that comes first, whichever thread was faster."""
        with self._lock:
            if self._error is None or start < self._error[0]:
                self._error = (start, error)

    def _decode_chunk(self, start: int) -> None:
        if not self._collator.decode:
            return
        began = time.perf_counter()
        self._allocate()
        images = 0
        for place in range(start, min(start + self._chunk, len(self._rows))):
            if not self._bad[place]:
                images += self._sample(place, self._shards[place])
        self._collator.stats.add(decode_seconds=time.perf_counter() - began, images=images)

    def _sample(self, place: int, shard: Shard) -> int:
        """Decode one sample and return the number of images that took. A bad one is replaced by the next good row."""
        row = int(self._rows[place])
        policy = self._collator.on_bad_sample
        for tried in range(shard.rows if policy == "replace" else 1):
            try:
                images = self._decode_row(place, shard, (row + tried) % shard.rows)
            except _BadColumn as bad:
                if policy == "fail":
                    raise DataError(f"{shard.path}: row {row}, column {bad.column}: {bad.reason}") from bad
                if not tried:
                    self._collator.stats.add_bad(BadSample(shard.path, row, bad.column, bad.reason))
                continue
            if tried:
                self._rows[place] = (row + tried) % shard.rows
                self._replaced = True
            return images
        self._bad[place] = True
        return 0

    def _decode_row(self, place: int, shard: Shard, row: int) -> int:
        images = 0
        geometry = self._collator.geometry
        for name, decoder in self._decoders:
            pictures = shard.pictures[name]
            picture = int(pictures.picture_of_row[row])
            room_CHW = self._rooms[name][place]
            mask = self._masks.get(name)
            if mask is not None:
                mask[place] = picture >= 0
            if picture >= 0:
                try:
                    pixels, decoded = pictures.pixels(picture, decoder, room_CHW.nbytes)
                    images += decoded
                    geometry.place(pixels, room_CHW, int(self._draws[place]))
                except BadImage as error:
                    raise _BadColumn(name, str(error)) from error
            elif mask is None:
                raise _BadColumn(name, "null")
            else:
                room_CHW[:] = 0
        return images

    def _finish(self) -> None:
        length = len(self._rows)
        batch: Batch = {name: torch.from_numpy(room) for name, room in self._rooms.items()}
        for name, mask in self._masks.items():
            batch[f"{name}_mask"] = torch.from_numpy(mask)
        sources = self._final_sources() if self._replaced else self._sources
        for name, field in self._collator.fields.items():
            room = field.kind.allocate(length, self._collator.memory)
            for source in sources:
                field.kind.gather(source.shard.values[name], source.rows, room, source.dest)
            batch[name] = field.kind.finish(room)
        batch[POSITION] = torch.from_numpy(self._positions)
        if self._bad.any():
            batch = _without(batch, self._bad)
        self.samples = length - int(self._bad.sum())
        self._batch = self._collator.hook(batch) if self._collator.hook else batch

    def _final_sources(self) -> list[Source]:
        return [Source(source.shard, self._rows[source.dest], source.dest) for source in self._sources]


class _BadColumn(Exception):
    def __init__(self, column: str, reason: str) -> None:
        super().__init__(column, reason)
        self.column, self.reason = column, reason


def _without(batch: Batch, bad: np.ndarray) -> Batch:
    """The batch without its bad samples."""
    keep = np.flatnonzero(~bad)
    index = torch.from_numpy(keep)
    return {
        name: value[index] if isinstance(value, torch.Tensor) else [value[place] for place in keep]
        for name, value in batch.items()
    }
