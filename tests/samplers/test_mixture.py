"""Every sampler, driven by the exact denoiser of a Gaussian mixture, draws from the mixture."""

import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from headrace import samplers
from tests.oracles.mixture import Mixture, sliced_wasserstein, wasserstein

COUNT = 4000
PLANE = Mixture([[-1.0, 0.0], [1.0, 0.3], [0.2, 1.2]], [0.15, 0.1, 0.2], [0.3, 0.5, 0.2])
WIDE = Mixture([[-1.0, 0.0], [1.0, 0.3], [0.2, 1.2]], [0.5, 0.4, 0.6], [0.3, 0.5, 0.2])
APART = Mixture([[-3.0, -3.0], [3.0, 3.0]], [1.0, 1.0], [0.2, 0.8])


def geometric(highest: float, lowest: float, count: int) -> Tensor:
    return torch.logspace(math.log10(highest), math.log10(lowest), count, dtype=torch.float64)


ZERO = torch.zeros(1, dtype=torch.float64)
LADDER = torch.cat([geometric(6, 1, 15)[:-1], geometric(0.8, 0.2, 4), ZERO])
LANGEVIN = functools.partial(samplers.sample_langevin, updates=60, rate=0.25)

SAMPLERS: dict[str, tuple[Mixture, Callable[..., Tensor], Tensor]] = {
    "ddim": (PLANE, samplers.sample_ddim, samplers.karras(0.01, 20.0, 100)),
    "ddim, eta 0.5": (PLANE, functools.partial(samplers.sample_ddim, eta=0.5), samplers.karras(0.01, 20.0, 100)),
    "ddim, eta 1": (PLANE, functools.partial(samplers.sample_ddim, eta=1.0), samplers.karras(0.01, 20.0, 200)),
    "ddpm, small": (PLANE, samplers.sample_ddpm, samplers.karras(0.01, 20.0, 200)),
    "ddpm, large": (PLANE, functools.partial(samplers.sample_ddpm, variance="large"), samplers.karras(0.01, 20, 250)),
    "heun": (PLANE, samplers.sample_heun, samplers.karras(0.01, 20.0, 25)),
    "heun, churn": (PLANE, functools.partial(samplers.sample_heun, churn=20.0), samplers.karras(0.01, 20.0, 60)),
    "dpm++ 2m": (PLANE, samplers.sample_dpmpp_2m, samplers.karras(0.01, 20.0, 50)),
    "dpm++ 2m sde": (PLANE, samplers.sample_dpmpp_2m_sde, samplers.karras(0.01, 20.0, 80)),
    "unipc": (PLANE, samplers.sample_unipc, samplers.karras(0.01, 20.0, 40)),
    "predictor-corrector": (PLANE, samplers.sample_predictor_corrector, samplers.karras(0.01, 20.0, 150)),
    "langevin": (APART, LANGEVIN, LADDER),
}


FEW = 1000
"""the number of points in an exact pairing, whose cost grows with the cube of that number"""


@functools.cache
def exact_gap(mixture: Mixture) -> float:
    """The sliced distance between two exact sets of samples: the largest of several."""
    return max(sliced_wasserstein(mixture.sample(COUNT, i), mixture.sample(COUNT, 1000 + i)) for i in range(8))


@functools.cache
def exact_pairing(mixture: Mixture) -> float:
    """The Wasserstein-2 distance between two exact sets of `FEW` samples: the largest of several."""
    return max(wasserstein(mixture.sample(FEW, i), mixture.sample(FEW, 1000 + i)) for i in range(8))


def drawn(sampler: Callable[..., Tensor], mixture: Mixture, sigmas: Tensor, seed: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x_ND = torch.randn(COUNT, 2, generator=generator, dtype=torch.float64) * sigmas[0]
    return sampler(mixture.denoise, x_ND, sigmas, generator=generator)


@pytest.mark.parametrize("name", SAMPLERS)
def test_draws_from_the_mixture(name: str) -> None:
    mixture, sampler, sigmas = SAMPLERS[name]
    x_ND = drawn(sampler, mixture, sigmas)
    assert sliced_wasserstein(x_ND, mixture.sample(COUNT, 99)) < 1.25 * exact_gap(mixture)
    assert wasserstein(x_ND[:FEW], mixture.sample(FEW, 99)) < 1.25 * exact_pairing(mixture)
    assert (mixture.shares(x_ND) - mixture.weights_K).abs().max() < 0.02


def test_plain_langevin_fails_where_annealed_succeeds() -> None:
    # With the same number of steps at one small level, points stay at the mode next to which they start.
    one_level = torch.cat([LADDER[-2:-1], ZERO])
    x_ND = torch.randn(COUNT, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64) * 6
    start = APART.shares(x_ND)
    x_ND = samplers.sample_langevin(APART.denoise, x_ND, one_level, updates=60 * (len(LADDER) - 1), rate=0.25)
    assert (APART.shares(x_ND) - start).abs().max() < 0.05
    assert (APART.shares(x_ND) - APART.weights_K).abs().max() > 0.2
    assert sliced_wasserstein(x_ND, APART.sample(COUNT, 99)) > 4 * exact_gap(APART)


ORDERS = {
    "ddim": (samplers.sample_ddim, 1, 40),
    "heun": (samplers.sample_heun, 2, 20),
    "dpm++ 2m": (samplers.sample_dpmpp_2m, 2, 40),
    "unipc": (samplers.sample_unipc, 3, 40),
}


@pytest.mark.parametrize("name", ORDERS)
def test_error_falls_with_steps_as_theory_says(name: str) -> None:
    sampler, order, steps = ORDERS[name]
    start_ND = torch.randn(200, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 5

    def solution(solver: Callable[..., Tensor], count: int) -> Tensor:
        # Steps are equal in log σ, where every solver here has its order; the last level is above 0.
        return solver(WIDE.denoise, start_ND, geometric(5.0, 0.2, count + 1))

    exact = solution(samplers.sample_heun, 4000)
    coarse, fine = (float((solution(sampler, n) - exact).square().mean().sqrt()) for n in (steps, 2 * steps))
    assert abs(math.log2(coarse / fine) - order) < 0.25
