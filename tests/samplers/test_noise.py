"""A sample's noise does not depend on the batch that it is drawn in."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headrace import samplers
from headrace.draws import Draws
from tests.oracles.mixture import Mixture

PLANE = Mixture([[-1.0, 0.0], [1.0, 0.3]], [0.3, 0.4], [0.4, 0.6])
SIGMAS = samplers.karras(0.05, 10.0, 8)
STOCHASTIC: dict[str, tuple[Callable[..., Tensor], dict[str, Any]]] = {
    "ddim": (samplers.sample_ddim, {"eta": 0.7}),
    "ddpm": (samplers.sample_ddpm, {}),
    "heun": (samplers.sample_heun, {"churn": 4.0}),
    "dpmpp_2m_sde": (samplers.sample_dpmpp_2m_sde, {}),
    "langevin": (samplers.sample_langevin, {"updates": 3}),
    "predictor_corrector": (samplers.sample_predictor_corrector, {}),
}


def drawn(name: str, first: int, last: int, seed: int = 0) -> Tensor:
    sampler, extra = STOCHASTIC[name]
    draws = Draws(seed, torch.arange(first, last))
    x_ND = draws.normal("start", 2).double() * SIGMAS[0]
    return sampler(PLANE.denoise, x_ND, SIGMAS, generator=samplers.SampleNoise(draws), **extra)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_a_sample_is_the_same_in_every_batch(name: str) -> None:
    whole = drawn(name, 0, 7)
    parts = torch.cat([drawn(name, 0, 3), drawn(name, 3, 4), drawn(name, 4, 7)])
    torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
    assert (whole - drawn(name, 0, 7, seed=1)).abs().min() > 1e-6


def test_each_call_draws_anew_and_normally() -> None:
    noise = samplers.SampleNoise(Draws(3, torch.arange(2000)))
    like = torch.empty(2000, 3, dtype=torch.float64)
    calls = torch.stack([noise(like) for _ in range(4)])
    assert calls.dtype == torch.float64
    flat_KN = calls.flatten(1)
    torch.testing.assert_close(torch.corrcoef(flat_KN), torch.eye(4, dtype=torch.float64), rtol=0, atol=0.06)
    assert abs(flat_KN.mean()) < 0.03
    assert abs(flat_KN.std() - 1) < 0.02
