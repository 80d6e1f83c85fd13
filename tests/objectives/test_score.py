"""Score matching finds the score, with and without noise."""

import math

import pytest
import torch
from torch import Tensor, nn

from headrace import objectives
from headrace.draws import Draws
from headrace.models import Denoiser, schedule
from headrace.models.precondition import Score
from headrace.objectives.score import exact_score_matching, sliced_score_matching
from headrace.recipe.objective import Diffusion
from tests.oracles.mixture import Mixture

PLANE = Mixture([[-1.0, 0.0], [1.0, 0.3]], [0.3, 0.4], [0.4, 0.6])


def test_exact_score_matching_is_its_closed_form() -> None:
    # For s(x) = −A·x: tr ∇s = −tr A.
    precision = torch.tensor([[2.0, 0.3], [0.3, 1.0]], dtype=torch.float64)
    x_ND = torch.randn(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = exact_score_matching(lambda x: -x @ precision, x_ND)
    torch.testing.assert_close(found, -3.0 + (x_ND @ precision).square().sum(1) / 2)


def test_sliced_score_matching_is_exact_on_average() -> None:
    layer = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 3)).double()
    x_ND = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    many = [sliced_score_matching(layer, x_ND, torch.randn(4, 3, generator=generator).double()) for _ in range(3000)]
    spread_N = torch.stack(many).std(0) / math.sqrt(len(many))
    assert ((torch.stack(many).mean(0) - exact_score_matching(layer, x_ND)).abs() < 4 * spread_N).all()
    # In one dimension the random sign cancels, so the result is exact.
    line = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)).double()
    torch.testing.assert_close(
        sliced_score_matching(line, x_ND[:, :1], -torch.ones(4, 1, dtype=torch.float64)),
        exact_score_matching(line, x_ND[:, :1]),
    )


def small_network(inputs: int) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(inputs, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))


def relative_error(found_ND: Tensor, x_ND: Tensor, sigma: float) -> float:
    """The norm of the error divided by the norm of the exact score."""
    exact_ND = (PLANE.denoise(x_ND, torch.tensor(sigma)) - x_ND) / sigma**2
    return float((found_ND - exact_ND).norm() / exact_ND.norm())


def test_a_network_trained_by_sliced_score_matching_learns_the_score() -> None:
    network, sigma = small_network(2), 0.5
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for step in range(600):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * (1 - step / 600)
        x_ND = PLANE.sample(512, step).float() + sigma * torch.randn(512, 2, generator=generator)
        signs_ND = torch.randn(512, 2, generator=generator).sign()
        sliced_score_matching(network, x_ND, signs_ND).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    x_ND = PLANE.sample(2000, 10_000) + sigma * torch.randn(2000, 2, generator=generator)
    assert relative_error(network(x_ND.float()).double().detach(), x_ND, sigma) < 0.2


class Conditioned(nn.Module):
    """A small network of points and their noise level. Points are images with two channels and one pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = small_network(5)

    def forward(self, x_NCHW: Tensor, c_noise_N: Tensor, *cond: object) -> Tensor:
        sigma_N1 = 2 * c_noise_N.exp()[:, None]
        scale_N1 = (1 + sigma_N1**2).sqrt()
        level_N3 = torch.cat([c_noise_N[:, None], c_noise_N[:, None] ** 2 / 4, sigma_N1 / scale_N1], 1)
        return self.layers(torch.cat([x_NCHW.flatten(1) / scale_N1, level_N3], 1)).view_as(x_NCHW)


@pytest.mark.parametrize(
    ("lowest", "steps", "count", "expected"),
    [
        (0.5, 1500, 1024, (0.7, 1.0, 4.0)),
        pytest.param(0.2, 4500, 2048, (0.3, 1.0, 4.0), marks=pytest.mark.slow),
    ],
)
def test_denoising_score_matching_over_a_ladder_learns_every_score_within_5_percent(
    lowest: float, steps: int, count: int, expected: tuple[float, ...]
) -> None:
    network = Conditioned()
    objective = objectives.Diffusion(Diffusion(prediction="score", schedule="geometric", min_snr=None), network)
    levels = schedule.geometric(lowest, 5.0)
    objective.denoiser = Denoiser(network, Score(levels), levels)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2, betas=(0.9, 0.99))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 + math.cos(math.pi * step / steps))
        image = PLANE.sample(count, step).float().view(count, 2, 1, 1)
        objective.loss({"image": image}, Draws(0, torch.arange(count) + step * count))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
    for sigma in expected:
        x_ND = PLANE.sample(2000, 10_000) + sigma * torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
        x0_ND = objective.denoiser(x_ND.float().view(-1, 2, 1, 1), sigma, None).view(-1, 2).double().detach()
        assert relative_error((x0_ND - x_ND) / sigma**2, x_ND, sigma) < 0.05
