"""A pending batch: several threads decode parts of it, straight into its memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch

from headrace.errors import DataError, RecipeError
from headrace.images.formats import BadImage
from headrace.images.headers import dimensions
from headrace.images.pixels import CHANNELS, Mode, decode
from headrace.loading.feed.block import Batch, Block
from headrace.loading.feed.stats import BadSample, Stats
from headrace.loading.shard.geometry import Geometry
from headrace.loading.shard.read import Shard
from headrace.loading.table.failures import read_error, says_nothing_of_the_data

POSITION = "_position"
"""the batch key of the samples' positions in the run"""


class Pending:
    """One batch. Its `tasks` may run in any order; the last one to end completes it, or its block if that is later."""

    def __init__(self, block: Block, number: int, start: int, stop: int, chunk: int) -> None:
        """Batch `number` of `block`, made of its samples [start, stop) and decoded in chunks of `chunk` samples."""
        self._block, self._start, self._stop = block, start, stop
        self._collator = collator = block.collator
        length = stop - start
        self._bad = block.bad[start:stop].copy()
        self._rows = block.rows[start:stop].copy()
        self._replaced: list[int] = []
        self._geometry = collator.geometry
        if collator.buckets is not None and block.sizes is not None and length:
            self._geometry = replace(collator.geometry, size=collator.buckets.sizes[block.sizes[number]])
        self._starts = list(range(0, length, chunk)) if collator.decode else []
        self._chunk = chunk
        self._left = len(self._starts) + 1
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._error: tuple[int, BaseException] | None = None
        self._batch: Batch = {}
        self._shapes = {name: self._shape(name, mode) for name, mode in collator.decode.items()}
        self.nbytes = sum(prod(shape) for shape in self._shapes.values())
        """bytes of the decoded images"""
        self.samples = 0
        self._rooms: dict[str, np.ndarray] = {}
        scaled = partial(_scaled, self._geometry, collator.stats)  # not a method: a cycle would keep the batch
        self._decoders = [(name, partial(decode, mode=mode, scaled=scaled)) for name, mode in collator.decode.items()]
        self._masks = {name: np.ones(length, bool) for name in list(collator.decode)[1:]}

    def tasks(self) -> list[Callable[[], None]]:
        """The tasks that threads must run, in any order, to finish the batch."""
        self._block.when_ready(self._gathered)
        return [partial(self._run, start) for start in self._starts]

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; returns whether the batch is done."""
        return self._done.wait(seconds)

    def result(self) -> Batch:
        """The finished batch. Raises the exception of a thread, if there was one."""
        if self._error is not None:
            raise self._error[1]
        return self._batch

    def _shape(self, name: str, mode: Mode) -> tuple[int, int, int, int]:
        height, width = self._geometry.size or self._first_size(name)
        return self._stop - self._start, CHANNELS[mode], height, width

    def _allocate(self) -> None:
        """Allocate when the first thread starts on this batch: memory that was just freed is still in its caches."""
        with self._lock:
            if not self._rooms:
                memory = self._collator.memory
                self._rooms = {name: memory.empty(shape, np.dtype(np.uint8)) for name, shape in self._shapes.items()}

    def _first_size(self, name: str) -> tuple[int, int]:
        for shard, row in zip(self._block.shards[self._start : self._stop], self._rows.tolist(), strict=True):
            picture = shard.pictures[name].picture_of_row[row] if shard else -1
            if shard and picture >= 0:
                try:
                    return dimensions(shard.pictures[name].encoded.encoded_bytes(picture))
                except BadImage:
                    continue
        return 0, 0

    def _gathered(self) -> None:
        if self._block.error is not None:
            self._fail(-1, self._block.error)
        self._end_one()

    def _run(self, start: int) -> None:
        try:
            self._decode_chunk(start)
        except BaseException as error:
            self._fail(start, error)
        self._end_one()

    def _end_one(self) -> None:
        with self._lock:
            self._left -= 1
            last = not self._left
        if last:
            try:
                if self._error is None:
                    self._finish()
            except BaseException as error:
                self._fail(self._stop, error)
            self._rooms = {}
            del self._block
            self._done.set()

    def _fail(self, start: int, error: BaseException) -> None:
        """Keep the error of the first chunk that failed, in batch order, whichever thread was faster."""
        with self._lock:
            if self._error is None or start < self._error[0]:
                self._error = (start, error)

    def _decode_chunk(self, start: int) -> None:
        began = time.perf_counter()
        self._allocate()
        images = 0
        for place in range(start, min(start + self._chunk, len(self._rows))):
            if not self._bad[place]:
                images += self._sample(place, self._block.shards[self._start + place])
        self._collator.stats.add(decode_seconds=time.perf_counter() - began, images=images)

    def _sample(self, place: int, shard: Shard) -> int:
        """Decode one sample, handling a bad one by the policy; returns the number of images decoded."""
        row = int(self._rows[place])
        policy = self._collator.on_bad_sample
        for tried in range(shard.rows if policy == "replace" else 1):
            try:
                images = self._decode_row(place, shard, (row + tried) % shard.rows)
            except _BadColumn as bad:
                found = BadSample(shard.path, row, bad.column, bad.reason, shard.sample_id(row))
                if policy == "fail":
                    raise DataError(str(found)) from bad
                if not tried:
                    self._collator.stats.add_bad(found)
                continue
            if tried:
                self._rows[place] = (row + tried) % shard.rows
                self._replaced.append(place)
            return images
        self._bad[place] = True
        return 0

    def _decode_row(self, place: int, shard: Shard, row: int) -> int:
        images = 0
        block = self._block
        draw = 0 if block.draws is None else int(block.draws[self._start + place])
        for name, decoder in self._decoders:
            pictures = shard.pictures[name]
            picture = int(pictures.picture_of_row[row])
            room_CHW = self._rooms[name][place]
            mask = self._masks.get(name)
            if mask is not None:
                if name in block.dropped and block.dropped[name][self._start + place]:
                    picture = -1
                mask[place] = picture >= 0
            if picture >= 0:
                try:
                    pixels, decoded = pictures.pixels(picture, decoder, room_CHW.nbytes, self._geometry.size)
                    images += decoded
                    self._geometry.place(pixels, room_CHW, draw)
                except (BadImage, OSError, MemoryError) as error:
                    if says_nothing_of_the_data(error):
                        raise read_error(f"{shard.path}: row {row}, column {name}", error) from error
                    raise _BadColumn(name, str(error)) from error
            elif mask is None:
                raise _BadColumn(name, "null")
            else:
                room_CHW[:] = 0
        return images

    def _finish(self) -> None:
        block, part = self._block, slice(self._start, self._stop)
        batch: Batch = {name: torch.from_numpy(room) for name, room in self._rooms.items()}
        for name, mask in self._masks.items():
            batch[f"{name}_mask"] = torch.from_numpy(mask)
        for name, field in self._collator.fields.items():
            room = block.rooms[name][part]
            for place in self._replaced:
                shard = block.shards[self._start + place]
                field.kind.gather(shard.values[name], self._rows[place : place + 1], room, slice(place, place + 1))
            batch[name] = field.kind.finish(room)
        for name, dropped in block.dropped.items():
            batch[f"{name}_dropped"] = torch.from_numpy(dropped[part])
        batch[POSITION] = torch.from_numpy(block.positions[part])
        if self._bad.any():
            batch = _without(batch, self._bad)
        self.samples = len(self._bad) - int(self._bad.sum())
        if self._collator.sample_hook is not None:
            batch = _each(self._collator.sample_hook, batch, self.samples)
        self._batch = self._collator.hook(batch) if self._collator.hook else batch


def _scaled(geometry: Geometry, stats: Stats, height: int, width: int) -> tuple[int, int]:
    if geometry.stretches(height, width):
        stats.add(stretched=1)
    return geometry.scaled(height, width)


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


def _each(hook: Callable[[dict[str, Any]], dict[str, Any]], batch: Batch, count: int) -> Batch:
    """The results of `hook` for each sample, collated: tensors and numbers to a tensor, the rest to a list."""
    samples = [hook({name: value[place] for name, value in batch.items()}) for place in range(count)]
    if not all(isinstance(sample, dict) for sample in samples):
        raise RecipeError("sample_hook: found a result that is no dict, expected one for each sample")
    joined: Batch = {}
    for name in samples[0] if samples else ():
        values = [sample[name] for sample in samples]
        if isinstance(values[0], torch.Tensor):
            joined[name] = torch.stack(values)
        else:
            joined[name] = torch.tensor(values) if isinstance(values[0], (int, float)) else values
    return joined
