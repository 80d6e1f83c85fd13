"""Several datasets in one stream: shares, order on several ranks, resume."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import chain, islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import RecipeError
from headrace.loading import Mixture, ShardLoader

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
        second.load_state_dict({**first.state_dict(), "loaders": {"few": {}}})
    assert first.state_dict()["samples"] == {"few": 20, "many": 60}


def weighted(
    table_of: TableOf,
    weights: dict[str, float],
    batch_size: int,
    world_size: int = 1,
    rank: int = 0,
    **more: object,
) -> Mixture:
    counts = {"few": [5, 3], "many": [30, 20, 9], "most": [40, 60]}
    arguments = {"batch_size": 1, "epochs": None, "rank": rank, "world_size": world_size, **more}
    loaders = {name: ShardLoader(table_of(counts[name]), **arguments) for name in weights}
    return Mixture(loaders, weights, batch_size // world_size)


@given(
    weights=st.fixed_dictionaries({name: st.floats(0.01, 10) for name in ("few", "many", "most")}),
    batch_size=st.sampled_from([8, 24, 64]),
)
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_weights_are_kept_by_every_prefix(table_of: TableOf, weights: dict[str, float], batch_size: int) -> None:
    seen: Counter[str] = Counter()
    for number, batch in enumerate(islice(weighted(table_of, weights, batch_size), 20), 1):
        seen.update(batch["_source"])
        assert len(batch["_source"]) == len(batch["sample_id"]) == batch_size
        for name, weight in weights.items():
            assert abs(seen[name] - number * batch_size * weight / sum(weights.values())) <= 16


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_ranks_share_weighted_batches(table_of: TableOf, world_size: int) -> None:
    weights = {"few": 0.13, "many": 0.37, "most": 0.5}
    alone = [sorted(samples(batch)) for batch in islice(weighted(table_of, weights, 16), 12)]
    ranks = [
        [samples(batch) for batch in islice(weighted(table_of, weights, 16, world_size, rank), 12)]
        for rank in range(world_size)
    ]
    assert [sorted(chain(*parts)) for parts in zip(*ranks, strict=True)] == alone


def test_a_weighted_mixture_resumes_anywhere_and_ends_with_its_first_loader(table_of: TableOf) -> None:
    weights = {"few": 1.0, "many": 2.0, "most": 3.5}

    def mixed() -> Mixture:
        return weighted(table_of, weights, 8, epochs=3)

    whole = [samples(batch) for batch in mixed()]
    assert len(whole) == len(mixed()) > 10
    assert max(Counter(chain(*whole)).values()) <= 3
    for done in range(0, len(whole) + 1, 3):
        first = mixed()
        begun = iter(first)
        assert [samples(batch) for batch in islice(begun, done)] == whole[:done]
        begun.close()
        second = mixed()
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        assert [samples(batch) for batch in second] == whole[done:]
    state = first.state_dict()
    assert state["samples"] == Counter(name for name, _ in chain(*whole[:done]))
    with pytest.raises(RecipeError, match=r"found weights .*3\.0.*, expected .*3\.5"):
        weighted(table_of, {**weights, "most": 3.0}, 8, epochs=3).load_state_dict(state)


@pytest.mark.parametrize(
    ("weights", "batch_size", "message"),
    [
        ({"few": 1.0}, 8, r"weights: found \['few'\], expected one for each of"),
        ({"few": 1.0, "many": 0.0}, 8, "expected each above 0"),
        ({"few": 1.0, "many": 1.0}, None, "batch_size: found None"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    table_of: TableOf, weights: dict[str, float], batch_size: int | None, message: str
) -> None:
    loaders = {name: ShardLoader(table_of([4]), batch_size=1) for name in ("few", "many")}
    with pytest.raises(RecipeError, match=message):
        Mixture(loaders, weights, batch_size)


def test_loaders_of_several_ranks_are_refused(table_of: TableOf) -> None:
    loaders = {str(rank): ShardLoader(table_of([4]), batch_size=1, rank=rank, world_size=2) for rank in range(2)}
    with pytest.raises(RecipeError, match="expected one or more loaders of one rank"):
        Mixture(loaders)
