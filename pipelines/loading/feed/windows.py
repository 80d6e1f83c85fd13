"""The windows that a rank has open, and the shards they are in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from headrace.errors import DataError, Unavailable
from headrace.loading.feed.block import Source
from headrace.loading.feed.shard_cache import ShardCache
from headrace.loading.order.order import RankOrder, Segment, Window
from headrace.loading.shard.read import Shard


@dataclass
class _Open:
    """A window whose shards are in memory."""

    window: Window
    which: np.ndarray
    sample: np.ndarray
    shards: list[Shard | None]


class Windows:
    """The open windows of a rank, one for each track. The next window of each track is read ahead."""

    def __init__(
        self, order: RankOrder, shard_cache: ShardCache, on_unreadable: Callable[[DataError, int], None] | None
    ) -> None:
        """`on_unreadable` is called with the error and the number of lost samples; None raises the error instead.

        Unavailable is always raised: the samples are not lost.
        """
        self._order, self._shard_cache, self._on_unreadable = order, shard_cache, on_unreadable
        self._open: dict[int, _Open] = {}
        self._ahead: dict[int, Window] = {}
        for track in range(order.tracks):
            position = order.origin + order.rank + track * order.world_size
            if order.order.total is None or position < order.order.total:
                self._acquire(track, order.order.window_at(position))

    def sources(self, segment: Segment) -> list[Source]:
        """The rows of a segment, without those of shards that cannot be read."""
        opened = self._open.get(segment.track)
        if opened is None or opened.window is not segment.window:
            opened = self._advance(segment.track, segment.window)
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
        origin = (self._order.order.seed, epoch, piece.shard)
        return [Source(shard, shard.samples.rows(sample, epoch), dest, sample, origin)]

    def _acquire(self, track: int, window: Window) -> None:
        self._ahead[track] = window
        for piece in window.pieces:
            self._shard_cache.acquire(piece.shard)

    def _advance(self, track: int, window: Window) -> _Open:
        """Open `window` in place of the track's current one, and read the following one ahead."""
        old = self._open.pop(track, None)
        for piece in old.window.pieces if old else ():
            self._shard_cache.release(piece.shard)
        ahead = self._ahead.pop(track, None)
        if ahead is None or ahead.first != window.first:
            self._acquire(track, window)
            del self._ahead[track]
        following = self._order.following(window)
        if following is not None:
            self._acquire(track, following)
        which, sample = window.samples()
        shards = [self._get(piece.shard, piece.stop - piece.start) for piece in window.pieces]
        opened = self._open[track] = _Open(window, which, sample, shards)
        return opened

    def _get(self, number: int, samples: int) -> Shard | None:
        try:
            return self._shard_cache.get(number)
        except DataError as error:
            if self._on_unreadable is None or isinstance(error, Unavailable):
                raise
            self._on_unreadable(error, samples)
            return None
