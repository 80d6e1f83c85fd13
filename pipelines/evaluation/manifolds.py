"""Fidelity and variety, measured separately: by nearest neighbours among features, and by counting modes.

`precision_recall` takes features [N, D], one row per image. The manifold of a set is the union of balls around its
points; a ball reaches to its point's k-th nearest neighbour. `modes` counts the combinations of labels in drawn images,
for data whose modes are known.
"""

from typing import NamedTuple

import torch
from torch import Tensor

NEIGHBOURS = 3
"""k of precision and recall (Kynkäänniemi et al. 2019, section 3.1)"""


DENSITY_NEIGHBOURS = 5
"""k of density and coverage (Naeem et al. 2020, section 3.2)"""


ROWS_AT_ONCE = 1024


class Manifolds(NamedTuple):
    """Four figures. The best value of each is 1; density may exceed it."""

    precision: float
    """the share of drawn images inside the real manifold: fidelity"""
    recall: float
    """the share of real images inside the drawn manifold: variety"""
    density: float
    """the mean number of real balls that contain a drawn image, over k: fidelity that outliers cannot inflate"""
    coverage: float
    """the share of real images whose ball contains a drawn image: variety"""


def precision_recall(real_ND: Tensor, drawn_ND: Tensor) -> Manifolds:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Raises ValueError for sets of fewer than six images, which have no fifth neighbour.
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
    """The distance from each point to its third and its fifth nearest neighbour, not counting itself: two [N]."""
    nearest = [
        torch.cdist(part, points_ND).topk(DENSITY_NEIGHBOURS + 1, largest=False).values
        for part in points_ND.split(ROWS_AT_ONCE)
    ]
    distances = torch.cat(nearest)
    return distances[:, NEIGHBOURS], distances[:, DENSITY_NEIGHBOURS]


class Modes(NamedTuple):
    """How many of the possible combinations of labels were drawn, and how evenly."""

    possible: int
    drawn: int
    kl: float
    """KL divergence, in nats, of the drawn combinations from the uniform distribution"""


def modes(labels_NC: Tensor, classes: int) -> Modes:
    """The modes among drawn images. `labels` (int64 [N, C], 0 … classes − 1) are a classifier's, one a channel."""
    channels = labels_NC.shape[1]
    powers = classes ** torch.arange(channels)
    counts = torch.bincount((labels_NC * powers).sum(1), minlength=classes**channels).double()
    share = counts / counts.sum()
    # xlogy takes 0·log 0 as 0.
    kl = float(torch.xlogy(share, share * len(counts)).sum())
    return Modes(len(counts), int((counts > 0).sum()), kl)
