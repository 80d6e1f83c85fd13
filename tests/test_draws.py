"""Draws belong to a sample, whatever batch it is in."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.draws import Draws

SAMPLES = torch.arange(4000)
FIXED = [0.35661590099334717, 0.5681168437004089]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=40), st.integers(1, 70), st.integers(-(2**31), 2**31))
def test_values_depend_on_the_sample_only(samples: list[int], size: int, seed: int) -> None:
    together = Draws(seed, torch.tensor(samples))
    for position, sample in enumerate(samples):
        alone = Draws(seed, torch.tensor([sample]))
        for draw in ("uniform", "normal"):
            assert torch.equal(getattr(together, draw)("x", size)[position], getattr(alone, draw)("x", size)[0])


def test_a_longer_draw_does_not_change_uniform_values() -> None:
    draws = Draws(3, SAMPLES[:5])
    assert torch.equal(draws.uniform("x", 7)[:, :4], draws.uniform("x", 4))
    assert draws.uniform("x").shape == (5,)
    assert draws.normal("x", 3, 2).shape == (5, 3, 2)


def test_values_are_fixed_for_all_time() -> None:
    # A run resumed with a later version must draw the same: these numbers may never change.
    uniform = Draws(0, torch.tensor([0, 1])).uniform("noise level")
    assert uniform.tolist() == FIXED


def test_seed_name_sample_and_index_all_matter() -> None:
    base = Draws(0, SAMPLES).uniform("x", 2)
    others = [
        Draws(1, SAMPLES).uniform("x", 2),
        Draws(0, SAMPLES).uniform("y", 2),
        Draws(0, SAMPLES + 1).uniform("x", 2),
    ]
    for other in others:
        assert (other == base).float().mean() < 0.01
    assert (base[:, 0] == base[:, 1]).float().mean() < 0.01


def test_uniform_values_are_uniform() -> None:
    values = Draws(5, SAMPLES).uniform("u", 50).flatten().double().sort().values
    assert values[0] >= 0
    assert values[-1] < 1
    ideal = (torch.arange(len(values)) + 0.5) / len(values)
    # Kolmogorov–Smirnov at p = 0.001.
    assert (values - ideal).abs().max() < 1.95 / math.sqrt(len(values))


def test_normal_values_are_normal_and_independent() -> None:
    values = Draws(6, SAMPLES).normal("n", 64)
    flat = values.flatten().double().sort().values
    cdf = 0.5 * (1 + torch.erf(flat / math.sqrt(2)))
    ideal = (torch.arange(len(flat)) + 0.5) / len(flat)
    assert (cdf - ideal).abs().max() < 1.95 / math.sqrt(len(flat))
    correlation = torch.corrcoef(values.T).fill_diagonal_(0)
    # The largest of 64·63/2 correlations of 4,000 pairs stays below 5 deviations.
    assert correlation.abs().max() < 5 / math.sqrt(len(SAMPLES))
    along = torch.corrcoef(torch.stack([values[:-1, 0], values[1:, 0]]))[0, 1]
    assert abs(along) < 4 / math.sqrt(len(SAMPLES))


def test_samples_must_be_integers_in_a_row() -> None:
    with pytest.raises(ValueError, match="expected int64"):
        Draws(0, torch.zeros(3))
    with pytest.raises(ValueError, match="expected int64"):
        Draws(0, torch.zeros(3, 1, dtype=torch.int64))
