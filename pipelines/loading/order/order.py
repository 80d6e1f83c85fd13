"""The order of samples: a pure function of (shards' counts, seed, epoch).

An epoch is a permutation of its N samples. The shards, in a seeded permutation, are laid end to end. This line of N
samples is cut into `lanes` parts whose lengths differ by at most one sample; a cut may go through a shard. Inside a
lane, each run of `window` shards is shuffled as a whole. Position q of the epoch is sample q // lanes of lane
q % lanes. A pass of several epochs is one epoch after another: position p of the pass is position p mod N of epoch
p // N.

Rank r of R takes the positions p with p ≡ r (mod R). If R divides `lanes`, a rank reads only its own lanes. Any other
R works too, but then all ranks together read each shard R / gcd(R, lanes) times.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

import numpy as np

from headrace.loading.order.hashing import Stream, mix, permutation


@dataclass(frozen=True)
class Piece:
    """Samples [start, stop) of one shard."""

    shard: int
    start: int
    stop: int


@dataclass(frozen=True)
class Window:
    """Pieces whose samples are shuffled together: `count` positions of the pass, which are first, first + lanes, …"""

    epoch: int
    first: int
    count: int
    pieces: tuple[Piece, ...]
    seed: int | None

    def samples(self) -> tuple[np.ndarray, np.ndarray]:
        """For each place in the window, the index of its piece and its sample in that piece's shard, both int64."""
        sizes = np.array([piece.stop - piece.start for piece in self.pieces])
        which = np.repeat(np.arange(len(sizes)), sizes)
        offsets = np.array([piece.start for piece in self.pieces]) - (np.cumsum(sizes) - sizes)
        sample = np.arange(self.count) + offsets[which]
        if self.seed is None:
            return which, sample
        places = permutation(self.seed, self.count)
        return which[places], sample[places]


class EpochOrder:
    """The lanes and windows of one epoch. Making it costs O(shards)."""

    def __init__(self, counts: np.ndarray, *, seed: int, epoch: int, lanes: int, window: int, shuffle: bool) -> None:
        self.epoch, self.lanes, self.window = epoch, lanes, window
        self._seed = mix(seed, epoch) if shuffle else None
        if self._seed is None:
            self._shards = np.arange(len(counts))
        else:
            self._shards = permutation(mix(self._seed, Stream.SHARDS), len(counts))
        self._ends = np.cumsum(counts[self._shards])
        self.total = int(self._ends[-1]) if len(counts) else 0

    def lane(self, lane: int) -> tuple[int, int]:
        """The part [start, stop) of the line of samples that belongs to this lane."""
        each, over = divmod(self.total, self.lanes)
        start = lane * each + min(lane, over)
        return start, start + each + (lane < over)

    def window_at(self, lane: int, index: int) -> tuple[int, int, tuple[Piece, ...], int | None]:
        """The window that holds sample `index` of `lane`: its first index, its count, its pieces, its seed."""
        start, stop = self.lane(lane)
        first_shard = int(np.searchsorted(self._ends, start, "right"))
        last_shard = int(np.searchsorted(self._ends, stop - 1, "right"))
        number = (int(np.searchsorted(self._ends, start + index, "right")) - first_shard) // self.window
        begin = first_shard + number * self.window
        pieces = []
        for place in range(begin, min(begin + self.window, last_shard + 1)):
            end = int(self._ends[place])
            before = int(self._ends[place - 1]) if place else 0
            low, high = max(start, before), min(stop, end)
            if low < high:
                pieces.append(Piece(int(self._shards[place]), low - before, high - before))
        first = max(start, int(self._ends[begin - 1]) if begin else 0) - start
        count = sum(piece.stop - piece.start for piece in pieces)
        seed = None if self._seed is None else mix(self._seed, Stream.WINDOW, lane, number)
        return first, count, tuple(pieces), seed


class Order:
    """The order of a pass of `epochs` epochs (None: endless) that begins with epoch `first_epoch`.

    `counts` holds the number of samples in each shard, int64, all positive.
    """

    def __init__(
        self,
        counts: np.ndarray,
        *,
        seed: int,
        lanes: int,
        window: int,
        shuffle: bool,
        first_epoch: int = 0,
        epochs: int | None = 1,
    ) -> None:
        self.counts, self.seed, self.lanes, self.window, self.shuffle = counts, seed, lanes, window, shuffle
        self.first_epoch = first_epoch
        self.epoch_samples = int(counts.sum())
        self.total = None if epochs is None else epochs * self.epoch_samples
        self._cache: dict[int, EpochOrder] = {}

    def epoch(self, number: int) -> EpochOrder:
        """The order inside epoch `number` of the pass, where 0 is `first_epoch`. The last three are cached."""
        if number not in self._cache:
            while len(self._cache) >= 3:
                del self._cache[min(self._cache)]
            self._cache[number] = EpochOrder(
                self.counts,
                seed=self.seed,
                epoch=self.first_epoch + number,
                lanes=self.lanes,
                window=self.window,
                shuffle=self.shuffle,
            )
        return self._cache[number]

    def window_at(self, position: int) -> Window:
        """The window that holds `position` of the pass."""
        number, inside = divmod(position, self.epoch_samples)
        order = self.epoch(number)
        index, lane = divmod(inside, self.lanes)
        first, count, pieces, seed = order.window_at(lane, index)
        base = number * self.epoch_samples + lane + first * self.lanes
        return Window(order.epoch, base, count, pieces, seed)


@dataclass(frozen=True)
class Segment:
    """Samples of `window`, at `places` of `Window.samples()`, that go to places `dest` of a rank's batch."""

    track: int
    window: Window
    places: slice
    dest: slice


class RankOrder:
    """The samples that one rank reads, starting at position `origin` of a pass.

    Its n-th sample is at position origin + rank + n · world_size. Modulo `lanes`, these positions cycle through
    `tracks` residues. Within a track they go from window to window and take every `stride`-th sample of each.
    """

    def __init__(self, order: Order, *, origin: int, rank: int, world_size: int) -> None:
        self.order, self.origin, self.rank, self.world_size = order, origin, rank, world_size
        common = gcd(order.lanes, world_size)
        self.tracks = order.lanes // common
        self.stride = world_size // common

    def length(self, start: int, count: int) -> int:
        """How many of the rank's samples [start, start + count) come before the end of the pass."""
        first = self.origin + start * self.world_size + self.rank
        if self.order.total is None:
            return count
        return min(count, max(0, -(-(self.order.total - first) // self.world_size)))

    def positions(self, start: int, count: int) -> np.ndarray:
        """Positions in the pass of the rank's samples [start, start + count), int64."""
        first = self.origin + start * self.world_size + self.rank
        return first + np.arange(self.length(start, count)) * self.world_size

    def segments(self, start: int, count: int, windows: dict[int, Window]) -> list[Segment]:
        """Where the rank's samples [start, start + count) are. `windows` caches each track's window between calls."""
        length = self.length(start, count)
        found = []
        for first in range(min(self.tracks, length)):
            place = first
            track = (start + first) % self.tracks
            while place < length:
                position = self.origin + self.rank + (start + place) * self.world_size
                window = windows.get(track)
                if window is None or not window.first <= position < window.first + window.count * self.order.lanes:
                    window = windows[track] = self.order.window_at(position)
                index = (position - window.first) // self.order.lanes
                inside = -(-(window.count - index) // self.stride)
                taken = min(inside, -(-(length - place) // self.tracks))
                found.append(
                    Segment(
                        track,
                        window,
                        slice(index, index + (taken - 1) * self.stride + 1, self.stride),
                        slice(place, place + (taken - 1) * self.tracks + 1, self.tracks),
                    )
                )
                place += taken * self.tracks
        return found

    def following(self, window: Window) -> Window | None:
        """The window that this rank reads after `window` on the same track, or None at the end of the pass."""
        end = window.first + window.count * self.order.lanes
        offset = (self.origin + self.rank) % self.world_size
        position = end
        while position % self.world_size != offset:
            position += self.order.lanes
        if self.order.total is not None and position >= self.order.total:
            return None
        return self.order.window_at(position)
