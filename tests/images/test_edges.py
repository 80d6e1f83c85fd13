"""The edges of a square, and the same pair of thresholds wherever edges are made or measured."""

import cv2
import numpy as np
import torch

from headrace.dataset.images import derive
from headrace.evaluation.edges import edge_map
from headrace.images.edges import canny
from headrace.jobs import fashion


def test_edges_are_where_a_square_ends() -> None:
    gray = np.full((32, 32), 255, np.uint8)
    gray[8:24, 8:24] = 76
    ys, xs = np.nonzero(canny(gray))
    near = [min(abs(v - 8), abs(v - 24)) <= 1 for v in (*ys, *xs)]
    assert len(ys) >= 4 * 14
    assert all(a or b for a, b in zip(near[: len(ys)], near[len(ys) :], strict=True))


def test_conditions_and_measures_have_the_same_edges() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 6), np.uint8)
    gray = cv2.resize(noise, (64, 64), interpolation=cv2.INTER_CUBIC)
    expected = canny(gray)
    assert (expected == cv2.Canny(gray, 100, 200)).all()
    assert 0 < (expected > 0).mean() < 0.5
    assert (derive.edges(gray) == expected).all()
    assert (fashion.conditions(gray)["edges"] == expected).all()
    assert (edge_map(torch.from_numpy(gray)[None]).astype(bool) == (expected > 0)).all()
