"""Precision, recall, density and coverage: against their definitions, and on sets whose figures are known."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.evaluation import manifolds
from headrace.evaluation.manifolds import DENSITY_NEIGHBOURS, NEIGHBOURS, Manifolds, precision_recall


def normal(count: int, width: int, seed: int) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def spelt_out(real: np.ndarray, drawn: np.ndarray) -> Manifolds:
    """The papers' definitions, point by point."""

    def radius(points: np.ndarray, i: int, k: int) -> float:
        others = [float(np.linalg.norm(points[i] - points[j])) for j in range(len(points)) if j != i]
        return sorted(others)[k - 1]

    def inside(x: np.ndarray, points: np.ndarray, k: int) -> list[bool]:
        return [float(np.linalg.norm(x - points[i])) <= radius(points, i, k) for i in range(len(points))]

    k = DENSITY_NEIGHBOURS
    covered = [any(np.linalg.norm(y - real[i]) <= radius(real, i, k) for y in drawn) for i in range(len(real))]
    return Manifolds(
        precision=float(np.mean([any(inside(x, real, NEIGHBOURS)) for x in drawn])),
        recall=float(np.mean([any(inside(x, drawn, NEIGHBOURS)) for x in real])),
        density=float(np.mean([sum(inside(x, real, k)) for x in drawn])) / k,
        coverage=float(np.mean(covered)),
    )


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999), real=st.integers(6, 15), drawn=st.integers(6, 15), shift=st.floats(0, 2))
def test_definitions(seed: int, real: int, drawn: int, shift: float) -> None:
    first, second = normal(real, 3, seed), normal(drawn, 3, seed + 1) + shift
    assert precision_recall(first, second) == pytest.approx(spelt_out(first.numpy(), second.numpy()))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = normal(60, 4, 0), normal(50, 4, 1) + 0.5
    whole = precision_recall(first, second)
    monkeypatch.setattr(manifolds, "ROWS_AT_ONCE", 13)
    assert precision_recall(first, second) == pytest.approx(whole)


def test_the_same_set_is_faithful_and_varied() -> None:
    points = normal(200, 4, 0)
    found = precision_recall(points, points)
    assert found.precision == found.recall == found.coverage == 1
    assert found.density == pytest.approx(1 + 1 / DENSITY_NEIGHBOURS, rel=0.15)


def test_a_collapsed_set_is_faithful_and_not_varied() -> None:
    real = normal(500, 4, 0)
    found = precision_recall(real, 0.05 * normal(500, 4, 1))
    assert found.precision > 0.99
    assert found.recall < 0.05
    assert found.coverage < 0.3


def test_a_set_that_is_spread_too_far_is_varied_and_not_faithful() -> None:
    found = precision_recall(normal(500, 4, 0), 3 * normal(500, 4, 1))
    assert found.precision < 0.3
    assert found.recall > 0.95


def test_a_set_elsewhere_is_neither() -> None:
    assert precision_recall(normal(50, 4, 0), normal(50, 4, 1) + 100) == (0, 0, 0, 0)


def test_few_images_have_no_neighbours() -> None:
    with pytest.raises(ValueError, match="found 5 images, expected at least 6"):
        precision_recall(normal(50, 2, 0), normal(5, 2, 1))
