"""Preconditionings turn a network into the right denoiser, and schedules give the right noise levels."""

import math

import pytest
import torch
from torch import Tensor, nn

from headrace.models import Denoiser, denoiser, schedule
from headrace.models.precondition import EDM, X0, Epsilon, Score, V
from headrace.recipe.objective import Diffusion

LEVELS = schedule.cosine()


class Exact(nn.Module):
    """The optimal network for standard normal images and one kind of prediction: a multiple of its input."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        shape = (-1, 1)
        if self.kind == "score":  # its input is x = x₀ + σn; E[n | x] = x·σ/(1 + σ²), and F is minus that
            sigma = 2 * c_noise.exp().view(shape)
            return -x * sigma / (1 + sigma**2)
        if self.kind == "edm":  # D = x/(1 + σ²); here σ_data = 1, so c_skip·x is already exact
            return torch.zeros_like(x)
        low, high = LEVELS.sigmas.log()[c_noise.floor().long()], LEVELS.sigmas.log()[c_noise.ceil().long()]
        sigma = torch.lerp(low, high, c_noise - c_noise.floor()).exp().view(shape)
        cos, sin = 1 / (1 + sigma**2).sqrt(), sigma / (1 + sigma**2).sqrt()  # √ᾱ, √(1 − ᾱ)
        return {"epsilon": sin * x, "x0": cos * x, "v": torch.zeros_like(x)}[self.kind]


@pytest.mark.parametrize("kind", ["epsilon", "v", "x0", "score", "edm"])
def test_an_exact_network_makes_the_exact_denoiser(kind: str) -> None:
    kinds = {
        "epsilon": Epsilon(LEVELS),
        "v": V(LEVELS),
        "x0": X0(LEVELS),
        "score": Score(LEVELS),
        "edm": EDM(LEVELS, 1.0),
    }
    made = Denoiser(Exact(kind), kinds[kind], LEVELS)
    sigma_N = torch.tensor([0.02, 0.3, 1.0, 7.0, 60.0], dtype=torch.float64)
    x_NC = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * sigma_N[:, None]
    expected = x_NC / (1 + sigma_N[:, None] ** 2)
    torch.testing.assert_close(made(x_NC, sigma_N), expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(made(x_NC, 0.3)[1], expected[1], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["v", "x0", "edm"])
def test_an_untrained_network_is_harmless_at_small_noise(kind: str) -> None:
    made = denoiser(lambda x, c_noise: torch.zeros_like(x), Diffusion(prediction=kind))  # type: ignore[arg-type]
    x_NC = torch.ones(1, 3)
    assert made(x_NC, 0.001).sub(x_NC * (kind != "x0")).abs().max() < 1e-4


def test_edm_keeps_input_and_target_at_variance_one() -> None:
    sigma_N = torch.tensor([0.01, 0.5, 20.0], dtype=torch.float64)
    c_skip, c_out, c_in, c_noise = EDM(LEVELS, 0.5)(sigma_N)
    torch.testing.assert_close(c_in**2 * (0.25 + sigma_N**2), torch.ones_like(sigma_N))
    # Var(x₀ − c_skip·(x₀ + σn)) = c_out² (Karras et al. 2022, equation 115).
    torch.testing.assert_close((1 - c_skip) ** 2 * 0.25 + c_skip**2 * sigma_N**2, c_out**2)
    torch.testing.assert_close(c_noise, sigma_N.log() / 4)


def test_linear_schedule_is_that_of_ddpm() -> None:
    alphas_bar = 1 / (1 + schedule.linear().sigmas ** 2)
    betas = 1 - alphas_bar / torch.cat([torch.ones(1, dtype=torch.float64), alphas_bar[:-1]])
    torch.testing.assert_close(betas[[0, 999]], torch.tensor([1e-4, 0.02], dtype=torch.float64))
    torch.testing.assert_close(betas.diff(), betas.diff().mean().expand(999))


def test_cosine_schedule_has_half_of_the_signal_near_the_middle() -> None:
    alphas_bar = 1 / (1 + schedule.cosine().sigmas ** 2)
    expected = math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert alphas_bar[499].item() == pytest.approx(expected, rel=1e-9)


def test_geometric_ladder_has_one_ratio() -> None:
    sigmas = schedule.geometric(0.01, 50.0, 10).sigmas
    torch.testing.assert_close(sigmas[1:] / sigmas[:-1], torch.full((9,), 5000 ** (1 / 9), dtype=torch.float64))
    assert (sigmas[0].item(), sigmas[-1].item()) == pytest.approx((0.01, 50.0))


@pytest.mark.parametrize("name", ["linear", "cosine", "geometric", "lognormal"])
def test_quantiles_spread_over_the_table_and_steps_go_back(name: str) -> None:
    levels = schedule.build(name)  # type: ignore[arg-type]
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    torch.testing.assert_close(levels.quantile(u), levels.sigmas)
    torch.testing.assert_close(levels.step(levels.sigmas), torch.arange(1000, dtype=torch.float64))
    between = (levels.sigmas[10] * levels.sigmas[11]).sqrt()
    assert levels.step(between).item() == pytest.approx(10.5)
    assert levels.quantile(torch.tensor(1 - 1e-9)).isfinite()
    assert levels.step(levels.sigmas[-1] * 10) == 999


def test_a_lognormal_draw_has_its_mean_and_deviation() -> None:
    logs = schedule.LogNormal(-1.0, 0.7).quantile(torch.linspace(0, 1, 100_001)[1:-1]).log()
    assert (logs.mean().item(), logs.std().item()) == pytest.approx((-1.0, 0.7), abs=1e-3)


@pytest.mark.parametrize("sigmas", [[1.0], [0.0, 1.0], [2.0, 1.0], [1.0, 1.0]])
def test_a_table_that_does_not_ascend_is_refused(sigmas: list[float]) -> None:
    with pytest.raises(ValueError, match="expected at least two levels above 0, ascending"):
        schedule.Schedule(torch.tensor(sigmas))
