"""Several datasets in each batch, in fixed shares."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch.utils.data import IterableDataset

from pipelines.errors import RecipeError
from pipelines.loading.block import Batch
from pipelines.loading.loader import ShardLoader

SOURCE = "_source"
"""the key of the datasets' names, one a sample"""


class Mixture(IterableDataset[Batch]):
    """Joins one batch of each loader into one: their batch sizes are the shares.

    A batch holds the keys that all loaders give, and `_source`, a list of names. Global batches stay the same for every
    world size and after every resume, as those of its loaders do. A pass ends with the loader that ends first; give
    `epochs=None` to those that should go round.
    """

    def __init__(self, loaders: Mapping[str, ShardLoader]) -> None:
        """Raises RecipeError where there is no loader, or where two are of different ranks."""
        places = {(loader.rank, loader.world_size) for loader in loaders.values()}
        if len(places) != 1:
            raise RecipeError(f"loaders: found ranks {sorted(places)}, expected one or more loaders of one rank")
        self.loaders = dict(loaders)

    def __len__(self) -> int:
        """Batches to the end of the pass. Raises TypeError where no loader ends."""
        finite = [len(loader) for loader in self.loaders.values() if loader.epochs is not None]
        if not finite:
            raise TypeError("a mixture of loaders with epochs=None has no length")
        return min(finite)

    def __iter__(self) -> Iterator[Batch]:
        running = {name: iter(loader) for name, loader in self.loaders.items()}
        try:
            for _ in range(len(self)) if self._ends() else iter(int, 1):
                yield _joined({name: next(batches) for name, batches in running.items()})
        finally:
            for batches in running.values():
                batches.close()  # type: ignore[attr-defined]

    def _ends(self) -> bool:
        return any(loader.epochs is not None for loader in self.loaders.values())

    def state_dict(self) -> dict[str, Any]:
        """The state of each loader, by name."""
        return {name: loader.state_dict() for name, loader in self.loaders.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken. Raises RecipeError naming what differs."""
        if set(state) != set(self.loaders):
            raise RecipeError(f"the mixture's state: found {sorted(self.loaders)}, expected {sorted(state)}")
        for name, loader in self.loaders.items():
            loader.load_state_dict(state[name])


def _joined(batches: Mapping[str, Batch]) -> Batch:
    first, *others = batches.values()
    joined: Batch = {}
    for key, value in first.items():
        if all(key in other for other in others):
            parts = [value, *(other[key] for other in others)]
            joined[key] = torch.cat(parts) if isinstance(value, torch.Tensor) else list(chain.from_iterable(parts))
    lengths = {name: len(next(iter(batch.values()))) for name, batch in batches.items()}
    joined[SOURCE] = [name for name, length in lengths.items() for _ in range(length)]
    return joined
