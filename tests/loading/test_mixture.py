"""Several datasets in one stream: shares, order on several ranks, resume."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import pytest

from pipelines.errors import RecipeError
from pipelines.loading import Mixture, ShardLoader

TableOf = Callable[[list[int]], Path]


def mixture(table_of: TableOf, world_size: int = 1, rank: int = 0, epochs: int | None = None) -> Mixture:
    def loader(counts: list[int], batch_size: int) -> ShardLoader:
        place = {"rank": rank, "world_size": world_size}
        return ShardLoader(table_of(counts), batch_size=batch_size // world_size, epochs=epochs, **place)

    return Mixture({"few": loader([5, 3], 4), "many": loader([30, 20, 9], 12)})


def samples(batch: dict) -> list[tuple[str, int]]:
    return list(zip(batch["_source"], batch["sample_id"].tolist(), strict=True))


def test_each_batch_has_its_shares_and_each_dataset_its_epochs(table_of: TableOf) -> None:
    batches = [samples(batch) for batch in islice(mixture(table_of), 59)]
    assert all(Counter(name for name, _ in batch) == {"few": 4, "many": 12} for batch in batches)
    counts = Counter(pair for batch in batches for pair in batch)
    assert {counts["many", number] for number in range(59)} == {12}
    assert sum(counts["few", number] for number in range(8)) == 4 * 59


def test_a_pass_ends_with_the_first_loader(table_of: TableOf) -> None:
    mixed = mixture(table_of, epochs=1)
    assert len(mixed) == len(list(mixed)) == 2
    with pytest.raises(TypeError, match="has no length"):
        len(mixture(table_of))


def test_ranks_share_the_global_batches(table_of: TableOf) -> None:
    alone = [sorted(samples(batch)) for batch in islice(mixture(table_of), 10)]
    ranks = [[samples(batch) for batch in islice(mixture(table_of, 2, rank), 10)] for rank in range(2)]
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == alone


def test_resume_goes_on_in_every_dataset(table_of: TableOf) -> None:
    whole = [samples(batch) for batch in islice(mixture(table_of), 12)]
    first = mixture(table_of)
    for _ in islice(first, 5):
        pass
    second = mixture(table_of)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert [samples(batch) for batch in islice(second, 7)] == whole[5:]
    with pytest.raises(RecipeError, match="found \\['few', 'many'\\], expected \\['few'\\]"):
        second.load_state_dict({"few": first.state_dict()["few"]})


def test_loaders_of_several_ranks_are_refused(table_of: TableOf) -> None:
    loaders = {str(rank): ShardLoader(table_of([4]), batch_size=1, rank=rank, world_size=2) for rank in range(2)}
    with pytest.raises(RecipeError, match="expected one or more loaders of one rank"):
        Mixture(loaders)
