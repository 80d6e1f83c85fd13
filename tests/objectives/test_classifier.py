"""Classifying noisy images: the noise drawn, and that training finds the exact posterior of a mixture."""

import torch
from torch import Tensor, nn

from headrace import objectives
from headrace.draws import Draws
from headrace.recipe.classifier import Classification
from tests.oracles.mixture import Mixture

PLANE = Mixture([[-0.6, 0.0], [0.6, 0.2], [0.1, 0.8]], [0.2, 0.2, 0.2], [0.3, 0.4, 0.3])


class Points(nn.Module):
    """A classifier of points in the plane, which have the shape of images with two channels and one pixel."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 3))
        self.seen: list[Tensor] = []

    def forward(self, x_NCHW: Tensor, sigma_N: Tensor) -> Tensor:
        self.seen.append(sigma_N)
        scaled = x_NCHW.flatten(1) / (1 + sigma_N[:, None] ** 2).sqrt()
        return self.layers(torch.cat([scaled, sigma_N[:, None].arctan()], 1))


def batch(count: int, seed: int) -> dict[str, Tensor]:
    """Points, each with the component of the mixture that it was drawn from."""
    generator = torch.Generator().manual_seed(seed)
    label_N = torch.multinomial(PLANE.weights_K, count, replacement=True, generator=generator)
    noise_ND = torch.randn(count, 2, generator=generator, dtype=torch.float64)
    points_ND = PLANE.means_KD[label_N] + PLANE.deviations_K[label_N, None] * noise_ND
    return {"image": points_ND.float().view(-1, 2, 1, 1), "label": label_N}


def test_a_trained_classifier_knows_the_posterior_at_every_level() -> None:
    network = Points()
    objective = objectives.NoisyClassification(Classification(family="classifier"), network)  # type: ignore[arg-type]
    (phase,) = objective.phases()
    assert phase.networks == ("model",)
    assert dict(objective.networks) == {"model": network}
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    steps, count = 500, 512
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - step / steps)
        loss, figures = phase.loss(batch(count, step), Draws(0, torch.arange(count) + step * count))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert figures["accuracy_clean"] > figures["accuracy"] > 0.5
    for sigma in (0.0, 0.3, 1.0):
        x_ND = PLANE.sample(2000, 9_999) + sigma * torch.randn(2000, 2, generator=torch.Generator().manual_seed(1))
        exact_NK = PLANE.log_parts(x_ND, sigma).softmax(1)
        found_NK = network(x_ND.float().view(-1, 2, 1, 1), torch.full((2000,), sigma)).softmax(1)
        assert (found_NK - exact_NK).abs().mean() < 0.03


def test_the_share_without_noise_is_as_asked() -> None:
    for share in (0.0, 0.4, 1.0):
        network = Points()
        recipe = Classification(family="classifier", clean=share)
        loss, figures = objectives.NoisyClassification(recipe, network).loss(  # type: ignore[arg-type]
            batch(4000, 0), Draws(0, torch.arange(4000))
        )
        assert abs((network.seen[0] == 0).float().mean() - share) < 0.03
        assert loss.isfinite()
        assert all(not figure.requires_grad for figure in figures.values())
