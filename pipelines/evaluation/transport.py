"""Optimal transport between sets of points: exact W₁, entropic W₁, the dual of W₁, and whether they agree.

POT solves the primal problem. The dual is solved by a 1-Lipschitz network, trained by the trainer of all runs: it is
what the critic of a Wasserstein GAN approximates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import ot
import torch
from torch import Tensor

from headrace.models.lipschitz import Lipschitz
from headrace.objectives.transport import KantorovichRubinstein
from headrace.ranks.workers import Workers
from headrace.recipe.training import Training
from headrace.training.trainer import Trainer

ERRORS = 3.0
"""how many standard errors two estimates of the same quantity may differ by"""


def exact_w1(x_ND: Tensor, y_MD: Tensor, a_N: Tensor | None = None, b_M: Tensor | None = None) -> float:
    """W₁ of two weighted sets of points: the least Σ Pᵢⱼ‖xᵢ − yⱼ‖ over plans P with marginals `a` and `b`.

    The network simplex (Bonneel et al. 2011) solves the linear program exactly; a few thousand points take seconds.
    Weights are uniform by default. Raises ValueError if the sets are empty or of different dimensions.
    """
    x, y = _points(x_ND, y_MD)
    a, b = (None if w is None else w.double().numpy() for w in (a_N, b_M))
    if x.shape[1] == 1:
        return float(ot.emd2_1d(x[:, 0], y[:, 0], a, b, metric="euclidean"))
    uniform = [np.full(len(p), 1 / len(p)) for p in (x, y)]
    weights = [given if given is not None else default for given, default in zip((a, b), uniform, strict=True)]
    return float(ot.emd2(*weights, ot.dist(x, y, metric="euclidean"), numItermax=10_000_000))


def sinkhorn_w1(x_ND: Tensor, y_MD: Tensor, blur: float) -> float:
    """The cost Σ Pᵢⱼ‖xᵢ − yⱼ‖ of the best plan when ε·KL(P ‖ a⊗b) is added to it (Cuturi 2013), ε = `blur` > 0.

    It is never below W₁, and approaches it as ε (a length, in the units of the points) goes to 0.
    """
    x, y = _points(x_ND, y_MD)
    a, b = np.full(len(x), 1 / len(x)), np.full(len(y), 1 / len(y))
    cost = ot.dist(x, y, metric="euclidean")
    plan = ot.sinkhorn(a, b, cost, blur, method="sinkhorn_log", numItermax=10_000, stopThr=1e-7, warn=False)
    return float((_onto_marginals(plan, a, b) * cost).sum())


@dataclass(frozen=True)
class Estimate:
    """An estimate with its standard error."""

    value: float
    error: float


def difference(potential: Callable[[Tensor], Tensor], x_ND: Tensor, y_MD: Tensor) -> Estimate:
    """E f(x) − E f(y) with its standard error over fresh samples: a lower bound of W₁ if f is 1-Lipschitz."""
    with torch.no_grad():
        f_N, f_M = (potential(points).double() for points in (x_ND, y_MD))
    error = math.sqrt(float(f_N.var() / len(f_N) + f_M.var() / len(f_M)))
    return Estimate(float(f_N.mean() - f_M.mean()), error)


def potential_between(
    x_ND: Tensor, y_MD: Tensor, *, steps: int = 400, width: int = 32, layers: int = 3, seed: int = 0
) -> Lipschitz:
    """A 1-Lipschitz network trained for `steps` steps to separate the two sets; each step uses all points."""
    _points(x_ND, y_MD)
    torch.manual_seed(seed)
    potential = Lipschitz(x_ND.shape[1], width, layers)
    settings = Training(
        run="",
        steps=steps,
        warmup=steps // 20,
        learning_rate=1e-2,
        decay="cosine",
        weight_decay=0,
        ema=0.9,
        precision="fp32",
    )
    alone = Workers(rank=0, world_size=1, device=x_ND.device)
    trainer = Trainer(KantorovichRubinstein(potential.to(x_ND.device), x_ND, y_MD), settings, 1, alone)
    for _ in range(steps):
        trainer.step({})
    return potential.eval().requires_grad_(False)


@dataclass(frozen=True)
class Duality:
    """The two sides of Kantorovich–Rubinstein duality for the same sets of points."""

    primal: float
    """the linear program's W₁"""
    dual: Estimate
    """the network's lower bound on it"""

    @property
    def gap(self) -> float:
        """The difference between the two sides, as a fraction of the primal."""
        return (self.primal - self.dual.value) / self.primal if self.primal else 0.0

    def agrees(self, tolerance: float = 0.05) -> bool:
        """Whether the gap is at most `tolerance` and the dual exceeds the primal by no more than its error allows."""
        return self.dual.value <= self.primal + ERRORS * self.dual.error and self.gap <= tolerance


def duality(x_ND: Tensor, y_MD: Tensor, *, steps: int = 400, seed: int = 0) -> Duality:
    """Both sides for two sets of points [N, D] and [M, D]."""
    potential = potential_between(x_ND, y_MD, steps=steps, seed=seed)
    return Duality(exact_w1(x_ND, y_MD), difference(potential, x_ND, y_MD))


def _points(x_ND: Tensor, y_MD: Tensor) -> tuple[np.ndarray, np.ndarray]:
    for name, points in (("x", x_ND), ("y", y_MD)):
        if points.ndim != 2 or not len(points):
            raise ValueError(f"{name}: found shape {list(points.shape)}, expected at least one point [N, D]")
    if x_ND.shape[1] != y_MD.shape[1]:
        raise ValueError(f"y: found points of {y_MD.shape[1]} dimensions, expected {x_ND.shape[1]} as in x")
    return x_ND.detach().double().cpu().numpy(), y_MD.detach().double().cpu().numpy()


def _onto_marginals(plan: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """`plan` rounded to exact marginals (Altschuler, Weed & Rigollet 2017, algorithm 2).

    Sinkhorn's iterations meet the marginals only approximately.
    """
    plan = plan * np.minimum(a / plan.sum(1), 1)[:, None]
    plan = plan * np.minimum(b / plan.sum(0), 1)[None]
    left, right = a - plan.sum(1), b - plan.sum(0)
    missing = left.sum()
    return plan + np.outer(left, right) / missing if missing > 0 else plan
