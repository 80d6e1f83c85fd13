"""The learning rate: closed forms, and no dependence on how samples are divided into steps."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.training.schedule import LearningRate


@given(st.integers(1, 1000))
def test_warm_up_is_linear(samples: int) -> None:
    rate = LearningRate(0.5, warmup=1000, total=10_000)
    assert rate(samples) == pytest.approx(0.5 * samples / 1000)


@given(st.integers(1000, 20_000))
def test_constant_and_cosine_after_the_warm_up(samples: int) -> None:
    assert LearningRate(0.5, 1000, 10_000)(samples) == 0.5
    expected = 0.25 * (1 + math.cos(math.pi * min(1, (samples - 1000) / 9000)))
    assert LearningRate(0.5, 1000, 10_000, "cosine")(samples) == pytest.approx(expected)


def test_inverse_square_root() -> None:
    rate = LearningRate(0.5, 1000, 10_000, "inverse_sqrt")
    assert rate(1000) == 0.5
    assert rate(4000) == pytest.approx(0.25)
    assert LearningRate(0.5, 0, 10_000, "inverse_sqrt")(1) == 0.5


@pytest.mark.parametrize("decay", ["constant", "cosine", "inverse_sqrt"])
def test_it_has_no_jumps(decay: str) -> None:
    rate = LearningRate(1.0, 100, 10_000, decay)  # type: ignore[arg-type]
    rates = [rate(samples) for samples in range(1, 10_001)]
    assert max(rates) == 1.0
    assert max(abs(b - a) for a, b in itertools.pairwise(rates)) <= 0.0101
