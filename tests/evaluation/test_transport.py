"""Optimal transport against closed forms, SciPy's linear program, and its own dual."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from benchmarks.points import PointDiscriminator, PointGenerator
from headrace.evaluation.transport import (
    ERRORS,
    Duality,
    Estimate,
    difference,
    duality,
    exact_w1,
    potential_between,
    sinkhorn_w1,
)
from headrace.models.lipschitz import Lipschitz, sort_pairs
from headrace.objectives import Adversarial
from headrace.ranks.workers import Workers
from headrace.recipe.gan import Adversarial as AdversarialRecipe
from headrace.recipe.training import Training
from headrace.training.trainer import Trainer

SINGLE = Workers(rank=0, world_size=1, device=torch.device("cpu"))


def normal(n: int, dimensions: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    """Points of N(shift·e₁, scale²·I)."""
    x_ND = torch.randn(n, dimensions, generator=torch.Generator().manual_seed(seed)) * scale
    x_ND[:, 0] += shift
    return x_ND


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_exact_w1_is_scipys_linear_program(n: int, m: int, dimensions: int, seed: int) -> None:
    x_ND, y_MD = normal(n, dimensions, seed), normal(m, dimensions, seed + 1, 2.0, 1.0)
    weights = torch.rand(n + m, generator=torch.Generator().manual_seed(seed)) + 0.1
    a_N, b_M = (w / w.sum() for w in weights.double().split([n, m]))
    cost = torch.cdist(x_ND.double(), y_MD.double()).flatten().numpy()
    rows = np.kron(np.eye(n), np.ones((1, m)))
    columns = np.kron(np.ones((1, n)), np.eye(m))
    marginals = np.concatenate([a_N.numpy(), b_M.numpy()])
    solved = scipy.optimize.linprog(cost, A_eq=np.concatenate([rows, columns]), b_eq=marginals, method="highs")
    assert exact_w1(x_ND, y_MD, a_N, b_M) == pytest.approx(solved.fun, abs=1e-6)


def test_exact_w1_of_closed_forms() -> None:
    x_ND = normal(300, 2, 0)
    assert exact_w1(x_ND, x_ND) == pytest.approx(0, abs=1e-9)
    assert exact_w1(x_ND, x_ND + torch.tensor([3.0, 4.0])) == pytest.approx(5, rel=1e-6)
    line_N1 = normal(500, 1, 0)
    other_N1 = normal(400, 1, 1, 2.0, 1.0)
    expected = scipy.stats.wasserstein_distance(line_N1[:, 0].numpy(), other_N1[:, 0].numpy())
    assert exact_w1(line_N1, other_N1) == pytest.approx(expected, rel=1e-6)


def test_sinkhorn_comes_down_to_w1() -> None:
    x_ND, y_ND = normal(40, 2, 0), normal(40, 2, 1, shift=2.0)
    exact = exact_w1(x_ND, y_ND)
    found = [sinkhorn_w1(x_ND, y_ND, blur) for blur in (1.0, 0.1, 0.03)]
    assert found == sorted(found, reverse=True)
    assert all(value >= exact - 1e-9 for value in found)
    assert found[-1] == pytest.approx(exact, rel=0.01)
    assert found[0] > 1.02 * exact


@pytest.mark.parametrize("dimensions", [1, 2, 5])
@given(seed=st.integers(0, 999), far=st.floats(0.1, 30))
@settings(max_examples=15, deadline=None)
def test_the_network_is_1_lipschitz_whatever_its_weights(dimensions: int, seed: int, far: float) -> None:
    torch.manual_seed(seed)
    network = Lipschitz(dimensions, 8, 3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=3)
    x_ND = torch.randn(64, dimensions)
    y_ND = x_ND + far * torch.randn(64, dimensions)
    assert ((network(x_ND) - network(y_ND)).abs() <= (x_ND - y_ND).norm(dim=1) * (1 + 1e-4) + 1e-5).all()


def test_sorting_pairs_keeps_norms_of_gradients() -> None:
    x_ND = torch.randn(5, 8, requires_grad=True)
    weights_D = torch.randn(8)
    (gradient,) = torch.autograd.grad((sort_pairs(x_ND) * weights_D).sum(), x_ND)
    torch.testing.assert_close(gradient.norm(dim=1), weights_D.norm().expand(5))
    with pytest.raises(ValueError, match="found 7, expected an even number of channels"):
        Lipschitz(2, 7)


@pytest.mark.parametrize(("dimensions", "scale", "shift"), [(1, 1.0, 2.0), (1, 3.0, 0.0), (2, 1.0, 1.5), (2, 2.0, 1.0)])
def test_primal_and_dual_agree(dimensions: int, scale: float, shift: float) -> None:
    x_ND, y_ND = normal(200, dimensions, 0), normal(200, dimensions, 1, scale, shift)
    found = duality(x_ND, y_ND, steps=200)
    assert found.dual.value <= found.primal * (1 + 1e-5), "for the same points there is no sampling error"
    assert found.agrees(0.03), found


def test_a_potential_bounds_the_distance_of_fresh_samples_from_below() -> None:
    """W₁(N(0, I), N(0, 4I)) in the plane is E‖x‖ = √(π/2), and ‖x‖ is the potential."""
    exact = math.sqrt(math.pi / 2)
    potential = potential_between(normal(512, 2, 0, 2.0), normal(512, 2, 1), steps=200)
    found = difference(potential, normal(20_000, 2, 2, 2.0), normal(20_000, 2, 3))
    assert found.value <= exact + ERRORS * found.error
    assert found.value == pytest.approx(exact, rel=0.05)


def test_duality_that_does_not_hold_is_said() -> None:
    assert Duality(1.0, Estimate(0.97, 0.01)).agrees()
    assert not Duality(1.0, Estimate(0.90, 0.01)).agrees()
    assert not Duality(1.0, Estimate(1.04, 0.01)).agrees()
    assert Duality(1.0, Estimate(1.02, 0.01)).agrees()


def test_points_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"y: found points of 3 dimensions, expected 2 as in x"):
        exact_w1(torch.zeros(4, 2), torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"x: found shape \[0, 2\], expected at least one point"):
        sinkhorn_w1(torch.zeros(0, 2), torch.zeros(4, 2), 0.1)


def critic(x_ND: Tensor, y_ND: Tensor, steps: int, **changes: Any) -> tuple[Adversarial, dict[str, float | int]]:
    """A Wasserstein GAN's critic of x against y, where an untrained generator returns points of y."""

    class Given(PointGenerator):
        def forward(self, z_NZ: Tensor, condition: Any = None) -> Tensor:
            return y_ND[torch.randint(len(y_ND), (len(z_NZ),))]

    torch.manual_seed(0)
    recipe = AdversarialRecipe.model_validate({"family": "gan", "loss": "wasserstein", "rounds": steps + 1, **changes})
    objective = Adversarial(recipe, Given(1, 1, 2, 1), PointDiscriminator(x_ND.shape[1], 64, 3))
    training = Training(
        run="",
        steps=steps,
        warmup=0,
        learning_rate=2e-3,
        decay="cosine",
        beta1=0.5,
        beta2=0.9,
        weight_decay=0.0,
        clip=math.inf,
        precision="fp32",
    )
    trainer = Trainer(objective, training, 256, SINGLE)
    figures = {}
    generator = torch.Generator().manual_seed(1)
    tail = []
    for step in range(steps):
        batch = {"image": x_ND[torch.randint(len(x_ND), (256,), generator=generator)]}
        figures = trainer.step(batch).read()
        if step >= steps * 3 // 4:
            tail.append(figures["discriminator/wasserstein"])
    return objective, {**figures, "wasserstein": sum(tail) / len(tail)}


PAIRS = {
    "a shifted normal on the line": (1, normal(20_000, 1, 0), normal(20_000, 1, 1, shift=2.0), 2.0),
    "a wider normal on the line": (1, normal(20_000, 1, 0, 3.0), normal(20_000, 1, 1), 2 * math.sqrt(2 / math.pi)),
    "a shifted normal in the plane": (2, normal(20_000, 2, 0), normal(20_000, 2, 1, shift=1.5), 1.5),
    "a wider normal in the plane": (2, normal(20_000, 2, 0, 2.0), normal(20_000, 2, 1), math.sqrt(math.pi / 2)),
}
"""dimensions, two sets of samples, and the exact W₁: |shift|; (σ − 1)·E|x| on the line; (σ − 1)·E‖x‖ in the plane"""


@pytest.mark.parametrize("pair", list(PAIRS))
def test_the_critics_estimate_under_gradient_penalty(pair: str) -> None:
    _, x_ND, y_ND, exact = PAIRS[pair]
    _, figures = critic(x_ND, y_ND, 600, regulariser="gradient_penalty", penalty=30.0)
    assert figures["wasserstein"] == pytest.approx(exact, rel=0.05)


def test_clipping_gives_a_figure_that_is_no_distance() -> None:
    """A known bias: the scale is that of the box, so it grows with the box's size to the power of the layers."""
    _, x_ND, y_ND, exact = PAIRS["a shifted normal in the plane"]
    found = {clip: critic(x_ND, y_ND, 300, regulariser="clip", clip=clip)[1]["wasserstein"] for clip in (0.01, 0.02)}
    assert found[0.01] < 0.05 * exact
    assert found[0.02] > 8 * found[0.01]


def test_without_any_bound_the_estimate_has_no_limit() -> None:
    _, x_ND, y_ND, exact = PAIRS["a shifted normal in the plane"]
    assert critic(x_ND, y_ND, 300)[1]["wasserstein"] > 3 * exact
