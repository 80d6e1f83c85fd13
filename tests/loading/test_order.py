"""The order of samples: each once per epoch, the same for every world size and after every seek."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.loading.order.hashing import hashes, hashes_at, mix, permutation
from headrace.loading.order.order import Order, RankOrder, Window

counts_of_shards = st.lists(st.integers(1, 9), min_size=1, max_size=12)
settings_of_order = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 2**63),
        "lanes": st.sampled_from([1, 2, 3, 8]),
        "window": st.integers(1, 4),
        "shuffle": st.booleans(),
    }
)


def samples(order: Order, origin: int, rank: int, world_size: int, batch_size: int) -> list[list[tuple[int, int]]]:
    """(position, number in the table) of each sample in each batch of a rank, to the end of the pass."""
    ranked = RankOrder(order, origin=origin, rank=rank, world_size=world_size)
    starts = np.cumsum(order.counts) - order.counts
    windows: dict[int, Window] = {}
    batches = []
    for batch in range(-(-(order.total - origin) // (batch_size * world_size))):
        positions = ranked.positions(batch * batch_size, batch_size)
        found = np.full(len(positions), -1)
        for segment in ranked.segments(batch * batch_size, batch_size, windows):
            which, sample = segment.window.samples()
            shards = np.array([piece.shard for piece in segment.window.pieces])
            found[segment.dest] = starts[shards[which[segment.places]]] + sample[segment.places]
        batches.append(list(zip(positions.tolist(), found.tolist(), strict=True)))
    return batches


@given(counts_of_shards, settings_of_order, st.integers(1, 4))
def test_every_sample_occurs_once_in_each_epoch(counts: list[int], settings: dict, epochs: int) -> None:
    order = Order(np.array(counts), epochs=epochs, **settings)
    pairs = [pair for batch in samples(order, 0, 0, 1, 5) for pair in batch]
    assert [position for position, _ in pairs] == list(range(epochs * sum(counts)))
    for epoch in range(epochs):
        numbers = [number for position, number in pairs if position // sum(counts) == epoch]
        assert sorted(numbers) == list(range(sum(counts)))


@given(counts_of_shards, settings_of_order, st.sampled_from([2, 3, 4, 8]), st.integers(1, 3))
def test_global_batches_do_not_depend_on_the_world_size(
    counts: list[int], settings: dict, world_size: int, batch_size: int
) -> None:
    order = Order(np.array(counts), epochs=2, **settings)
    alone = samples(order, 0, 0, 1, batch_size * world_size)
    ranks = [samples(order, 0, rank, world_size, batch_size) for rank in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1
    together = [sorted(pair for part in parts for pair in part) for parts in zip(*ranks, strict=True)]
    assert together == alone


@given(counts_of_shards, settings_of_order, st.sampled_from([1, 2, 4]), st.data())
def test_a_seek_to_any_position_goes_on_as_before(
    counts: list[int], settings: dict, world_size: int, data: st.DataObject
) -> None:
    order = Order(np.array(counts), epochs=2, **settings)
    origin = data.draw(st.integers(0, order.total - 1))
    whole = [pair for batch in samples(order, 0, 0, 1, 7) for pair in batch]
    ranks = [samples(order, origin, rank, world_size, 2) for rank in range(world_size)]
    assert sorted(pair for batches in ranks for batch in batches for pair in batch) == whole[origin:]


@given(counts_of_shards, settings_of_order, st.sampled_from([1, 2, 3, 8]), st.data())
def test_the_window_read_ahead_is_the_one_that_comes_next(
    counts: list[int], settings: dict, world_size: int, data: st.DataObject
) -> None:
    order = Order(np.array(counts), epochs=2, **settings)
    ranked = RankOrder(order, origin=0, rank=data.draw(st.integers(0, world_size - 1)), world_size=world_size)
    windows: dict[int, Window] = {}
    by_track: dict[int, list[Window]] = {}
    for batch in range(-(-order.total // (2 * world_size))):
        for segment in ranked.segments(batch * 2, 2, windows):
            seen = by_track.setdefault(segment.track, [])
            if not seen or seen[-1] != segment.window:
                seen.append(segment.window)
    for seen in by_track.values():
        assert [ranked.following(window) for window in seen] == [*seen[1:], None]


def test_a_rank_meets_only_its_own_lanes_where_the_world_size_divides_them() -> None:
    order = Order(np.full(64, 10), seed=3, lanes=8, window=1, shuffle=True)
    shards: list[set[int]] = []
    for rank in range(4):
        ranked = RankOrder(order, origin=0, rank=rank, world_size=4)
        windows: dict[int, Window] = {}
        shards.append({p.shard for b in range(40) for s in ranked.segments(b * 4, 4, windows) for p in s.window.pieces})
    assert [len(mine) for mine in shards] == [16, 16, 16, 16]
    assert len(set.union(*shards)) == 64


def test_without_shuffle_the_order_is_that_of_the_table() -> None:
    order = Order(np.array([3, 1, 5]), seed=9, lanes=1, window=1, shuffle=False)
    assert [number for batch in samples(order, 0, 0, 1, 2) for _, number in batch] == list(range(9))


@pytest.mark.parametrize("window", [1, 4])
def test_shuffled_order_mixes_lanes_times_window_shards(window: int) -> None:
    order = Order(np.full(50, 100), seed=1, lanes=8, window=window, shuffle=True, epochs=2)
    numbers = np.array([number for batch in samples(order, 0, 0, 1, 64) for _, number in batch])
    first, second = numbers[:5000], numbers[5000:]
    # the worst case, a sorted table: neighbours come from the same lanes × window random shards
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 2 / (8 * window)
    # a random permutation has one fixed point, give or take one
    assert (first == second).sum() < 8
    # captions of one image are neighbours in the table: a third of lanes × window × shard apart, if mixed well
    place = np.argsort(first)
    assert np.median(np.abs(place[:-1] - place[1:])) > 8 * window * 100 / 5


def test_permutations_stay_the_same_for_ever() -> None:
    assert permutation(7, 10).tolist() == [1, 8, 5, 7, 0, 9, 4, 6, 3, 2]
    assert mix(1, 2, 3) == 15020427595393229491


@given(st.integers(0, 2**64 - 1), st.integers(0, 3000))
def test_a_permutation_holds_every_number_once(seed: int, count: int) -> None:
    assert np.array_equal(np.sort(permutation(seed, count)), np.arange(count))


def test_hashes_are_uniform_and_can_be_skipped_into() -> None:
    values = hashes(5, 100_000)
    assert np.array_equal(hashes_at(5, np.arange(500, 510)), values[500:510])
    shares = np.bincount((values >> np.uint64(60)).astype(int), minlength=16) / 100_000
    assert np.abs(shares - 1 / 16).max() < 5 * np.sqrt(1 / 16 / 100_000)
