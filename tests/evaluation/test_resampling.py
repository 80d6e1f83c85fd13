"""Intervals by half-sampling, against theory and against repetition."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.evaluation.distances import frechet_distance
from headrace.evaluation.resampling import NORMAL_95, halves, measured


def mean(values: torch.Tensor) -> tuple[float]:
    return (float(values.mean()),)


@given(sizes=st.lists(st.integers(1, 30), min_size=1, max_size=3), seed=st.integers(0, 99))
def test_halves_are_halves_without_copies(sizes: list[int], seed: int) -> None:
    for chosen in halves(sizes, 3, seed):
        for index, size in zip(chosen, sizes, strict=True):
            assert len(index.unique()) == len(index) == (size + 1) // 2
            assert index.max() < size


def test_the_same_seed_gives_the_same_halves() -> None:
    first, again, other = (list(halves([50], 3, seed)) for seed in (1, 1, 2))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])


def test_the_interval_of_a_mean_is_that_of_theory() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = measured(("mean",), mean, (values,), 2000, 0)["mean"]
    assert found.value == pytest.approx(float(values.mean()))
    assert found.high - found.value == pytest.approx(NORMAL_95 * float(values.std()) / 20, rel=0.06)


def test_the_interval_of_fid_is_as_wide_as_fid_varies() -> None:
    """The standard deviation of FID over many pairs of sets, against half-sampling's estimate from one pair."""
    generator = torch.Generator().manual_seed(0)

    def pair() -> tuple[torch.Tensor, torch.Tensor]:
        first, second = (torch.randn(300, 4, generator=generator, dtype=torch.float64) for _ in range(2))
        return first, 0.7 * second + 0.8

    true = np.std([frechet_distance(*pair()) for _ in range(300)])
    conditioning = []
    for number in range(12):
        found = measured(("fid",), lambda *sets: (frechet_distance(*sets),), pair(), 60, number)["fid"]
        conditioning.append((found.high - found.value) / NORMAL_95)
    assert np.mean(conditioning) == pytest.approx(true, rel=0.15)


def test_progress_counts_the_halves() -> None:
    counts: list[int] = []
    measured(("mean",), mean, (torch.arange(8.0),), 5, 0, counts.append)
    assert sum(counts) == 5
