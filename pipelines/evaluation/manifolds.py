"""Fidelity and variety apart, by nearest neighbours among features [N, D]: one row an image.

A set's manifold is the union of balls around its points, each as large as the distance to the point's k-th neighbour.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Modes(NamedTuple):
    """How many of the possible combinations of labels were drawn, and how evenly."""

    possible: int
    drawn: int
    kl: float
    """KL divergence, in nats, of the drawn combinations from the uniform distribution"""


def modes(labels_NC: Tensor, classes: int) -> Modes:
    """The modes among drawn images, whose channels a classifier gave `labels` in 0 … classes − 1: int64 [N, C]."""
    channels = labels_NC.shape[1]
    powers = classes ** torch.arange(channels)
    counts = torch.bincount((labels_NC * powers).sum(1), minlength=classes**channels).double()
    share = counts / counts.sum()
    # 0·log 0 is 0: xlogy's convention.
    kl = float(torch.xlogy(share, share * len(counts)).sum())
    return Modes(len(counts), int((counts > 0).sum()), kl)


NEIGHBOURS = 3
"""k of precision and recall (Kynkäänniemi et al. 2019, section 3.1)"""
DENSITY_NEIGHBOURS = 5
"""k of density and coverage (Naeem et al. 2020, section 3.2)"""
ROWS_AT_ONCE = 1024


class Manifolds(NamedTuple):
    """Four shares, all 1 at best; density may exceed it."""

    precision: float
    """drawn images inside the real manifold: fidelity"""
    recall: float
    """real images inside the drawn manifold: variety"""
    density: float
    """real balls that hold a drawn image, over k: fidelity that outliers do not flatter"""
    coverage: float
    """real images whose ball holds a drawn one: variety"""


def precision_recall(real_ND: Tensor, drawn_ND: Tensor) -> Manifolds:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Raises ValueError for a set that has no fifth neighbour.
    """
    smallest = min(len(real_ND), len(drawn_ND))
    if smallest <= DENSITY_NEIGHBOURS:
        raise ValueError(f"features: found {smallest} images, expected at least {DENSITY_NEIGHBOURS + 1}")
    real, drawn = real_ND.float(), drawn_ND.float()
    real_radius, real_wide = radii(real)
    drawn_radius, _ = radii(drawn)
    inside_real = torch.zeros(len(drawn), dtype=torch.bool)
    balls_held = torch.zeros(len(drawn), dtype=torch.int64)
    inside_drawn, covered = [], []
    for start in range(0, len(real), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        distance_RM = torch.cdist(real[rows], drawn)
        inside_real |= (distance_RM <= real_radius[rows, None]).any(0)
        in_wide = distance_RM <= real_wide[rows, None]
        balls_held += in_wide.sum(0)
        covered.append(in_wide.any(1))
        inside_drawn.append((distance_RM <= drawn_radius).any(1))
    return Manifolds(
        precision=float(inside_real.double().mean()),
        recall=float(torch.cat(inside_drawn).double().mean()),
        density=float(balls_held.double().mean()) / DENSITY_NEIGHBOURS,
        coverage=float(torch.cat(covered).double().mean()),
    )


def radii(points_ND: Tensor) -> tuple[Tensor, Tensor]:
    """The distance of each point to its third and to its fifth neighbour, itself not counted: two [N]."""
    nearest = [
        torch.cdist(part, points_ND).topk(DENSITY_NEIGHBOURS + 1, largest=False).values
        for part in points_ND.split(ROWS_AT_ONCE)
    ]
    distances = torch.cat(nearest)
    return distances[:, NEIGHBOURS], distances[:, DENSITY_NEIGHBOURS]
