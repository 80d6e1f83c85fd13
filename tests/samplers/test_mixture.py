"""Every sampler, driven by the exact denoiser of a Gaussian mixture, draws from the mixture."""

import functools
from collections.abc import Callable

import pytest
import torch
from oracles.mixture import Mixture, sliced_wasserstein
from torch import Tensor

from pipelines import samplers

COUNT = 20_000
PLANE = Mixture([[-1.0, 0.0], [1.0, 0.3], [0.2, 1.2]], [0.15, 0.1, 0.2], [0.3, 0.5, 0.2])

SAMPLERS: dict[str, tuple[Callable[..., Tensor], Tensor]] = {
    "ddim": (samplers.sample_ddim, samplers.karras(0.01, 40.0, 150)),
    "ddim, eta 0.5": (functools.partial(samplers.sample_ddim, eta=0.5), samplers.karras(0.01, 40.0, 200)),
    "ddim, eta 1": (functools.partial(samplers.sample_ddim, eta=1.0), samplers.karras(0.01, 40.0, 400)),
    "ddpm, large": (functools.partial(samplers.sample_ddpm, variance="large"), samplers.karras(0.01, 40.0, 800)),
    "heun": (samplers.sample_heun, samplers.karras(0.01, 40.0, 40)),
    "heun, churn": (functools.partial(samplers.sample_heun, churn=20.0), samplers.karras(0.01, 40.0, 100)),
    "dpm++ 2m": (samplers.sample_dpmpp_2m, samplers.karras(0.01, 40.0, 60)),
    "dpm++ 2m sde": (samplers.sample_dpmpp_2m_sde, samplers.karras(0.01, 40.0, 150)),
    "unipc": (samplers.sample_unipc, samplers.karras(0.01, 40.0, 60)),
    "langevin": (functools.partial(samplers.sample_langevin, steps=20, rate=0.1), samplers.karras(0.01, 40.0, 60)),
    "predictor-corrector": (samplers.sample_predictor_corrector, samplers.karras(0.01, 40.0, 400)),
}


@pytest.fixture(scope="module")
def exact_gap() -> float:
    """The distance of two exact sets, the largest of some."""
    return max(sliced_wasserstein(PLANE.sample(COUNT, 2 * i), PLANE.sample(COUNT, 2 * i + 1)) for i in range(8))


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_from_the_mixture(name: str, exact_gap: float) -> None:
    sampler, sigmas = SAMPLERS[name]
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(COUNT, 2, generator=generator, dtype=torch.float64) * sigmas[0]
    drawn = sampler(PLANE.denoise, x, sigmas, generator=generator)
    gap = sliced_wasserstein(drawn, PLANE.sample(COUNT, 100))
    print(name, gap, exact_gap, PLANE.shares(drawn))
    assert gap < 1.5 * exact_gap
    assert (PLANE.shares(drawn) - PLANE.weights_K).abs().max() < 0.02
