"""Losses and penalties of GANs, against their formulas and finite differences."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from benchmarks.points import PointDiscriminator, PointGenerator
from headrace.draws import Draws
from headrace.models.conditions import Conditioning
from headrace.models.gan import build_pair
from headrace.objectives import Adversarial
from headrace.objectives.gan import PAIRINGS, PATIENCE
from headrace.objectives.smoothness import between, gamma_at, squared_gradient
from headrace.recipe.gan import Adversarial as AdversarialRecipe
from headrace.recipe.gan import Gan

REAL_N, FAKE_N = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([-0.5, 0.1, 3.0])


def recipe(**changes: Any) -> AdversarialRecipe:
    return AdversarialRecipe.model_validate({"family": "gan", **changes})


def adversarial(**changes: Any) -> Adversarial:
    torch.manual_seed(0)
    return Adversarial(recipe(**changes), PointGenerator(4, 2, 16, 2), PointDiscriminator(2, 16, 2))


def points(n: int = 8) -> dict[str, Tensor]:
    return {"image": torch.randn(n, 2, generator=torch.Generator().manual_seed(1)) + 2}


def draws(first: int = 0, n: int = 8) -> Draws:
    return Draws(3, torch.arange(first, first + n))


def test_losses_are_those_of_the_papers() -> None:
    real, fake = REAL_N.sigmoid(), FAKE_N.sigmoid()
    log_odds = -(real.log() + (1 - fake).log())
    for name, generator in (("minimax", (1 - fake).log()), ("non_saturating", -fake.log())):
        torch.testing.assert_close(PAIRINGS[name].discriminator(REAL_N, FAKE_N), log_odds)
        torch.testing.assert_close(PAIRINGS[name].generator(REAL_N, FAKE_N), generator)
    relativistic = PAIRINGS["relativistic"]
    torch.testing.assert_close(relativistic.discriminator(REAL_N, FAKE_N), -(REAL_N - FAKE_N).sigmoid().log())
    torch.testing.assert_close(relativistic.generator(REAL_N, FAKE_N), -(FAKE_N - REAL_N).sigmoid().log())
    wasserstein = PAIRINGS["wasserstein"]
    assert torch.equal(wasserstein.discriminator(REAL_N, FAKE_N), FAKE_N - REAL_N)
    assert torch.equal(wasserstein.generator(REAL_N, FAKE_N), -FAKE_N)


def test_minimax_and_its_discriminator_are_one_game() -> None:
    """V(D, G): the generator minimises the negative of the discriminator's loss, in the terms that contain G."""
    torch.testing.assert_close(
        PAIRINGS["minimax"].generator(REAL_N, FAKE_N),
        -PAIRINGS["minimax"].discriminator(REAL_N, FAKE_N) + nn.functional.softplus(-REAL_N),
    )


def test_squared_gradient_of_a_quadratic_is_known() -> None:
    """D(x) = ½xᵀAx: ∇D = Ax, and the derivative of ‖Ax‖² by A is 2Axxᵀ."""
    torch.manual_seed(0)
    a, x_ND = torch.randn(3, 3, dtype=torch.float64), torch.randn(5, 3, requires_grad=True)
    a = ((a + a.T) / 2).float().requires_grad_()
    (squared_N,) = squared_gradient((x_ND @ a * x_ND).sum(1) / 2, x_ND)
    torch.testing.assert_close(squared_N, (x_ND @ a).square().sum(1))
    squared_N.sum().backward()
    expected = sum(2 * torch.outer(a.detach() @ x, x) for x in x_ND.detach())
    assert a.grad is not None
    torch.testing.assert_close((a.grad + a.grad.T) / 2, (expected + expected.T) / 2)  # type: ignore[attr-defined, operator]


@pytest.mark.parametrize("regulariser", ["gradient_penalty", "r1_r2", "none"])
@pytest.mark.parametrize("loss", list(PAIRINGS))
def test_gradients_of_the_discriminator_are_those_of_functional_transforms(regulariser: str, loss: str) -> None:
    """Compares with torch.func: vectorised gradients of single samples, differentiated by the weights."""
    objective = adversarial(loss=loss, regulariser=regulariser, gamma=0.7, penalty=5.0)
    real, fake = points()["image"], objective.generator(draws().normal("latent, discriminator", 4)).detach()

    def criticism(weights: dict[str, Tensor], x_D: Tensor) -> Tensor:
        return functional_call(objective.discriminator, weights, (x_D[None],))[0]

    def loss_of(weights: dict[str, Tensor]) -> Tensor:
        outputs = (vmap(lambda x_D: criticism(weights, x_D))(x_ND) for x_ND in (real, fake))
        total = PAIRINGS[loss].discriminator(*outputs).mean()
        squared = vmap(lambda x_D: grad(criticism, argnums=1)(weights, x_D).square().sum())
        if regulariser == "r1_r2":
            return total + 0.35 * (squared(real) + squared(fake)).mean()
        if regulariser == "gradient_penalty":
            share_N1 = draws().uniform("between")[:, None]
            return total + 5 * (squared(share_N1 * real + (1 - share_N1) * fake).sqrt() - 1).square().mean()
        return total

    named = dict(objective.discriminator.named_parameters())
    objective.discriminator_loss(points(), draws())[0].backward()
    for name, expected in grad(loss_of)({n: p.detach() for n, p in named.items()}).items():
        found = named[name].grad
        assert found is not None
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_r1_and_r2_are_squared_gradients_at_both_kinds_of_image() -> None:
    plain, penalised = adversarial(), adversarial(regulariser="r1_r2", gamma=0.7)
    loss, _ = plain.discriminator_loss(points(), draws())
    penalty, figures = penalised.discriminator_loss(points(), draws())
    expected = {}
    fake = penalised.generator(draws().normal("latent, discriminator", 4)).detach()
    for name, x in (("r1", points()["image"]), ("r2", fake)):
        x = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(penalised.discriminator(x).sum(), x)
        expected[name] = gradient.square().sum(1).mean()
        torch.testing.assert_close(figures[name], expected[name])
    torch.testing.assert_close(penalty - loss, 0.35 * (expected["r1"] + expected["r2"]))
    torch.testing.assert_close(figures["adversarial"], loss.detach())


def test_the_gradient_penalty_is_taken_on_straight_lines() -> None:
    real, fake = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    share_N = torch.tensor([0.0, 1.0, 0.25, 0.5])
    x = between(real, fake, share_N)
    assert torch.equal(x[0], fake[0])
    torch.testing.assert_close(x[1], real[1])
    torch.testing.assert_close(x[2], 0.25 * real[2] + 0.75 * fake[2])
    objective = adversarial(loss="wasserstein", regulariser="gradient_penalty", penalty=3.0)
    with torch.no_grad():  # D(x) = 2·x₀ everywhere: its gradient's norm is 2
        for parameter in objective.discriminator.parameters():
            parameter.zero_()
        for block in objective.discriminator.blocks:
            block.weight[0, 0], block.bias[0] = 1.0, 100.0
        objective.discriminator.out.weight[0, 0] = 2.0
    loss, figures = objective.discriminator_loss(points(), draws())
    assert float(figures["gradient_norm"]) == pytest.approx(2)
    assert float(loss.detach() - figures["adversarial"]) == pytest.approx(3, rel=1e-4)
    assert float(figures["wasserstein"]) == pytest.approx(-float(figures["adversarial"]) / 2, rel=1e-4)


def test_clipping_bounds_every_weight_that_images_go_through() -> None:
    pair = build_pair(
        Gan.model_validate(
            {"network": "gan", "resolution": 8, "channels": 8, "multipliers": [1, 1], "condition": "label"}
        )
    )
    objective = Adversarial(recipe(loss="wasserstein", regulariser="clip", clip=0.03), *pair)
    embedding = pair.discriminator.head.embedding.label.weight.clone()
    after = objective.phases()[0].after
    assert after is not None
    after()
    for name, parameter in pair.discriminator.named_parameters():
        assert "embedding" in name or parameter.abs().max() <= 0.03, name
    assert torch.equal(pair.discriminator.head.embedding.label.weight, embedding)
    assert embedding.abs().max() > 0.03


def test_gamma_falls_by_half_a_cosine_of_samples_seen() -> None:
    samples_N = torch.tensor([0, 50, 100, 1000])
    expected = torch.tensor([2.0, 1.25, 0.5, 0.5])
    torch.testing.assert_close(gamma_at(samples_N, 2.0, 0.5, 100), expected)
    objective = adversarial(regulariser="r1_r2", gamma=2.0, gamma_final=0.5, burn_in=100)
    for first, gamma in ((0, 2.0), (1000, 0.5)):
        loss, figures = objective.discriminator_loss(points(1), draws(first, 1))
        penalty = float(loss.detach() - figures["adversarial"])
        assert penalty == pytest.approx(gamma / 2 * float(figures["r1"] + figures["r2"]), rel=1e-3)


@pytest.mark.parametrize("rounds", [1, 5])
def test_phases_and_the_networks_they_train(rounds: int) -> None:
    first, second = adversarial(rounds=rounds).phases()
    assert (first.networks, first.every) == (("discriminator",), 1)
    assert (second.networks, second.every) == (("generator",), rounds)


@pytest.mark.parametrize("loss", list(PAIRINGS))
def test_each_round_reaches_its_own_network_only(loss: str) -> None:
    objective = adversarial(loss=loss)
    value, _ = objective.discriminator_loss(points(), draws())
    value.backward()
    assert all(p.grad is None for p in objective.generator.parameters())
    assert all(p.grad is not None for p in objective.discriminator.parameters())
    objective.discriminator.requires_grad_(False)
    value, _ = objective.generator_loss(points(), draws())
    value.backward()
    assert all(p.grad is not None for p in objective.generator.parameters())


def test_rounds_won_outright_are_counted_and_reported() -> None:
    objective = adversarial()
    with torch.no_grad():
        objective.discriminator.out.weight.zero_()
        objective.discriminator.out.bias.zero_()
    _, figures = objective.discriminator_loss(points(), draws())
    assert figures["rounds_won"] == 0
    assert figures["adversarial"] == pytest.approx(2 * math.log(2))

    class Winner(nn.Module):
        def forward(self, x_ND: Tensor, condition: Conditioning) -> Tensor:
            return torch.where(torch.isin(x_ND[:, 0], points()["image"][:, 0]), 20.0, -20.0)

    objective = Adversarial(recipe(), PointGenerator(4, 2), Winner())
    warn = objective.phases()[0].warn
    assert warn is not None
    lines = []
    for round_ in range(1, 2 * PATIENCE + 1):
        _, figures = objective.discriminator_loss(points(), draws())
        assert figures["rounds_won"] == round_
        lines.append(warn({f"discriminator/{name}": float(value) for name, value in figures.items()}))
    said = [line for line in lines if line is not None]
    assert len(said) == 2
    assert lines[PATIENCE - 1] is not None
    assert said[0].startswith(f"the discriminator has won {PATIENCE} rounds in a row outright")
    assert "rounds_won" in objective.discriminator.state_dict()


def test_a_critic_reports_a_distance_and_wins_nothing() -> None:
    _, figures = adversarial(loss="wasserstein").discriminator_loss(points(), draws())
    assert set(figures) == {"adversarial", "real", "fake", "wasserstein"}
    assert float(figures["wasserstein"]) == pytest.approx(float(figures["real"] - figures["fake"]), abs=1e-6)
