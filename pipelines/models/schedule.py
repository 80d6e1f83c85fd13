"""Noise schedules: how much noise a training sample gets, and the table of levels that samplers step down.

A schedule is the quantile function of the noise level σ in x = x₀ + σ·n: it turns uniform numbers into random levels.
Discrete schedules keep DDPM's T steps; a level between two steps has a fractional step.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

STEPS = 1000


class Schedule(nn.Module):
    """A table of noise levels, ascending: float64 [T], on the device that the module is moved to."""

    sigmas: Tensor
    log_sigmas: Tensor

    def __init__(self, sigmas_T: Tensor) -> None:
        super().__init__()
        if sigmas_T.dim() != 1 or len(sigmas_T) < 2 or sigmas_T[0] <= 0 or not bool((sigmas_T.diff() > 0).all()):
            raise ValueError("sigmas: expected at least two levels above 0, ascending")
        self.register_buffer("sigmas", sigmas_T.double(), persistent=False)
        self.register_buffer("log_sigmas", sigmas_T.double().log(), persistent=False)

    def quantile(self, u: Tensor) -> Tensor:
        """The level below which a fraction `u` (in [0, 1)) of training samples lies: one of the table's, float64."""
        return self.sigmas[(u.double() * len(self.sigmas)).long().clamp(0, len(self.sigmas) - 1)]

    def step(self, sigma: Tensor) -> Tensor:
        """The step t(σ) in [0, T − 1], fractional between levels (linear in log σ); σ is float64."""
        log_sigma = sigma.log()
        upper = torch.searchsorted(self.log_sigmas, log_sigma).clamp(1, len(self.log_sigmas) - 1)
        low, high = self.log_sigmas[upper - 1], self.log_sigmas[upper]
        return upper - 1 + ((log_sigma - low) / (high - low)).clamp(0, 1)


class LogNormal(Schedule):
    """ln σ ~ N(mean, deviation²) (Karras et al. 2022, table 1); the table holds T equally likely levels."""

    def __init__(self, mean: float = -1.2, deviation: float = 1.2, steps: int = STEPS) -> None:
        self.mean, self.deviation = mean, deviation
        middles = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
        super().__init__(_log_normal_quantile(middles, mean, deviation))

    def quantile(self, u: Tensor) -> Tensor:
        """As in `Schedule`, but not limited to the levels of the table."""
        return _log_normal_quantile(u.double().clamp(1e-9, 1 - 1e-9), self.mean, self.deviation)


def _log_normal_quantile(u: Tensor, mean: float, deviation: float) -> Tensor:
    return torch.exp(mean + deviation * math.sqrt(2) * torch.erfinv(2 * u - 1))


def linear(steps: int = STEPS) -> Schedule:
    """β from 10⁻⁴ to 0.02 (Ho et al. 2020, section 4) for 1,000 steps; other counts keep the same total noise."""
    scale = 1000 / steps
    betas = torch.linspace(1e-4 * scale, 0.02 * scale, steps, dtype=torch.float64)
    return Schedule(_from_betas(betas))


def cosine(steps: int = STEPS) -> Schedule:
    """ᾱ(t) = cos²((t/T + s)/(1 + s)·π/2), s = 0.008, β at most 0.999 (Nichol & Dhariwal 2021, equation 17)."""
    times = torch.arange(steps + 1, dtype=torch.float64) / steps
    alphas_bar = torch.cos((times + 0.008) / 1.008 * math.pi / 2) ** 2
    return Schedule(_from_betas((1 - alphas_bar[1:] / alphas_bar[:-1]).clamp(max=0.999)))


def geometric(smallest: float = 0.01, largest: float = 50.0, steps: int = STEPS) -> Schedule:
    """Levels in geometric progression (Song & Ermon 2019, section 4.2)."""
    exponents = torch.linspace(math.log(smallest), math.log(largest), steps, dtype=torch.float64)
    return Schedule(exponents.exp())


def _from_betas(betas: Tensor) -> Tensor:
    alphas_bar = torch.cumprod(1 - betas, 0)
    return ((1 - alphas_bar) / alphas_bar).sqrt()


def build(name: Literal["linear", "cosine", "geometric", "lognormal"]) -> Schedule:
    """The schedule that a recipe names."""
    makers: dict[str, Callable[[], Schedule]] = {
        "linear": linear,
        "cosine": cosine,
        "geometric": geometric,
        "lognormal": LogNormal,
    }
    return makers[name]()
