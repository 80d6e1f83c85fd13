"""`Mixture`: batches from several datasets, in fixed shares or by weight."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from fractions import Fraction
from functools import partial
from itertools import chain
from math import inf
from typing import Any

import torch
from torch.utils.data import IterableDataset

from headrace.errors import RecipeError
from headrace.loading.feed.block import Batch
from headrace.loading.loader import ShardLoader

SOURCE = "_source"
"""the batch key of the dataset's name, one for each sample"""
UNIT = 8
"""length of the runs in which a global batch is dealt to datasets, so that 1, 2, 4 and 8 ranks share them equally"""


class Mixture(IterableDataset[Batch]):
    """Joins one batch from each loader into one batch.

    Without `weights`, the loaders' batch sizes are the shares. With `weights`, each global batch of `batch_size` ×
    world_size samples is dealt out in runs of 8; each run goes to the dataset that is furthest behind its weight. After
    any number of batches, each dataset is within two runs of its share.

    A batch holds the keys that all loaders have in common, and `_source`, a list of N dataset names. Like the loaders'
    own, its global batches are the same for every world size that divides 8 and after every resume. A pass ends when
    the first loader ends; give `epochs=None` to loaders that should start over instead.
    """

    def __init__(
        self,
        loaders: Mapping[str, ShardLoader],
        weights: Mapping[str, float] | None = None,
        batch_size: int | None = None,
    ) -> None:
        """Join `loaders`.

        Args:
            loaders: the loaders by dataset name, all with the same rank and world size.
            weights: a weight above 0 for each loader, in any unit; None uses the loaders' batch sizes as shares.
            batch_size: the number of samples in one batch of one rank; only with `weights`.

        Raises:
            RecipeError: the loaders, weights and batch size do not fit together.
        """
        places = {(loader.rank, loader.world_size) for loader in loaders.values()}
        if len(places) != 1:
            raise RecipeError(f"loaders: found ranks {sorted(places)}, expected one or more loaders of one rank")
        if weights is not None and set(weights) != set(loaders):
            raise RecipeError(f"weights: found {sorted(weights)}, expected one for each of {sorted(loaders)}")
        if weights is not None and not all(0 < weight < inf for weight in weights.values()):
            raise RecipeError(f"weights: found {dict(weights)}, expected each above 0 and finite")
        if (weights is None) != (batch_size is None):
            raise RecipeError(f"batch_size: found {batch_size} with weights={weights}, expected both or neither")
        self.loaders = dict(loaders)
        self.weights = None if weights is None else {name: weights[name] for name in loaders}
        self.world_size = next(iter(loaders.values())).world_size
        self.batch_size = batch_size or sum(loader.batch_size for loader in loaders.values())
        self._samples = dict.fromkeys(loaders, 0)

    def __len__(self) -> int:
        """The number of batches to the end of the pass. Raises TypeError if no loader ends."""
        if not self._ends():
            raise TypeError("a mixture of loaders with epochs=None has no length")
        if self.weights is None:
            return min(len(loader) for loader in self.loaders.values() if loader.epochs is not None)
        shares = self._shares()
        left = {name: loader.samples_left() for name, loader in self.loaders.items()}
        number = 0
        while all(many is None or shares.begin(name, number + 1) <= many for name, many in left.items()):
            number += 1
        return number

    def __iter__(self) -> Iterator[Batch]:
        count = len(self) if self._ends() else None
        running = self._running(count)
        shares = None if self.weights is None else self._shares()
        number = 0
        try:
            while count is None or number < count:
                parts = {name: next(batches) for name, batches in running.items()}
                number += 1
                for name, loader in self.loaders.items():
                    dealt = shares.size(name, number - 1) if shares else loader.batch_size
                    self._samples[name] += dealt * self.world_size
                yield _joined(parts)
        finally:
            for batches in running.values():
                batches.close()  # type: ignore[attr-defined]

    def _running(self, count: int | None) -> dict[str, Iterator[Batch]]:
        if self.weights is None:
            return {name: iter(loader) for name, loader in self.loaders.items()}
        shares = self._shares()
        return {
            name: loader.batches_cut(partial(shares.begin, name), count, self.batch_size)
            for name, loader in self.loaders.items()
        }

    def _shares(self) -> _Shares:
        assert self.weights is not None
        unit = (
            UNIT if self.batch_size * self.world_size % UNIT == 0 and UNIT % self.world_size == 0 else self.world_size
        )
        return _Shares(self.weights, self._samples, self.batch_size * self.world_size, unit, self.world_size)

    def _ends(self) -> bool:
        return any(loader.epochs is not None for loader in self.loaders.values())

    def state_dict(self) -> dict[str, Any]:
        """The number of samples from each dataset so far, over all ranks, and its loader's state; ready for JSON."""
        loaders = {name: loader.state_dict() for name, loader in self.loaders.items()}
        return {"weights": self.weights, "samples": dict(self._samples), "loaders": loaders}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the position in `state`. Raises RecipeError if its datasets or weights differ."""
        if set(state["loaders"]) != set(self.loaders):
            raise RecipeError(f"the mixture's state: found {sorted(self.loaders)}, expected {sorted(state['loaders'])}")
        if state["weights"] != self.weights:
            raise RecipeError(f"the mixture's state: found weights {self.weights}, expected {state['weights']}")
        for name, loader in self.loaders.items():
            loader.load_state_dict(state["loaders"][name])
        self._samples = {name: int(state["samples"][name]) for name in self.loaders}


class _Shares:
    """How many samples of each batch come from each dataset: a function of how many came from each before."""

    def __init__(
        self, weights: Mapping[str, float], samples: Mapping[str, int], batch: int, unit: int, world_size: int
    ) -> None:
        total = sum(map(Fraction, weights.values()))
        self._weights = {name: Fraction(weight) / total for name, weight in weights.items()}
        self._given = dict(samples)
        self._batch, self._unit, self._world_size = batch, unit, world_size
        self._begins: dict[str, list[int]] = {name: [0] for name in weights}
        self._lock = threading.Lock()

    def begin(self, name: str, number: int) -> int:
        """This rank's sample of dataset `name` at which batch `number` begins, since the iteration began."""
        with self._lock:
            while len(self._begins[name]) <= number:
                self._deal()
            return self._begins[name][number]

    def size(self, name: str, number: int) -> int:
        """The number of samples in a rank's batch `number` that come from dataset `name`."""
        return self.begin(name, number + 1) - self.begin(name, number)

    def _deal(self) -> None:
        """Deal out one more batch, a unit at a time, each to the dataset that is furthest behind (ties: the first)."""
        done = sum(self._given.values())
        before = dict(self._given)
        for dealt in range(done + self._unit, done + self._batch + 1, self._unit):
            behind = max(self._given, key=lambda name: self._weights[name] * dealt - self._given[name])
            self._given[behind] += self._unit
        for name, begins in self._begins.items():
            begins.append(begins[-1] + (self._given[name] - before[name]) // self._world_size)


def _joined(batches: Mapping[str, Batch]) -> Batch:
    """The batches that have samples, joined into one; keys that some dataset lacks are left out."""
    lengths = {name: len(next(iter(batch.values()))) for name, batch in batches.items()}
    filled = [batch for name, batch in batches.items() if lengths[name]] or list(batches.values())[:1]
    first, *others = filled
    joined: Batch = {}
    for key, value in first.items():
        if all(key in other for other in batches.values()):
            parts = [value, *(other[key] for other in others)]
            joined[key] = torch.cat(parts) if isinstance(value, torch.Tensor) else list(chain.from_iterable(parts))
    joined[SOURCE] = [name for name, length in lengths.items() for _ in range(length)]
    return joined
