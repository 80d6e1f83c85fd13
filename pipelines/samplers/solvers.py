"""The samplers, one function each, from a level of noise down to a sample.

Ancestral sampling (DDIM, DDPM) and Heun's method come first, then the multistep solvers (DPM-Solver++, UniPC), which
call the denoiser once per step and reuse earlier results. They integrate x over λ = −log σ; in the coordinates
x = x₀ + σ·n the signal's factor α is 1. Langevin dynamics and the reverse variance-exploding SDE, which follow the
score (D(x, σ) − x)/σ², come last.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from headrace.samplers.denoise import Denoise, Generator, checked, noise_like, sampler


@sampler
def sample_ddim(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, generator: Generator | None = None, eta: float = 0.0
) -> Tensor:
    """Draw by DDIM (Song et al. 2021, equation 12), rescaled by 1/√ᾱ; deterministic for η = 0.

    `x` is noise of deviation sigmas[0]; `sigmas` [S + 1] descend and end with 0 for a clean sample. `eta` is in [0, 1].
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: found {eta}, expected a number from 0 to 1")
    for sigma, below in checked(sigmas).unfold(0, 2, 1):
        x0 = denoise(x, sigma)
        up, down = ancestral(sigma, below, eta)
        x = x0 + (down / sigma).to(x.dtype) * (x - x0)
        if eta > 0 and below > 0:
            x = x + up.to(x.dtype) * noise_like(x, generator)
    return x


@sampler
def sample_ddpm(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    variance: Literal["small", "large"] = "small",
) -> Tensor:
    """Draw by DDPM's ancestral sampling (Ho et al. 2020, algorithm 2), with the variance β̃ ("small") or β ("large").

    The arguments are those of `sample_ddim`; the mean of a step is that of η = 1. A step that ends at 0 adds no noise.
    """
    for sigma, below in checked(sigmas).unfold(0, 2, 1):
        x0 = denoise(x, sigma)
        up, down = ancestral(sigma, below, 1.0)
        x = x0 + (down / sigma).to(x.dtype) * (x - x0)
        if variance == "large":
            # β = 1 − ᾱ_t/ᾱ_s, over ᾱ_s for the coordinates x = x₀ + σ·n.
            up = ((sigma**2 - below**2) * (1 + below**2) / (1 + sigma**2)).sqrt()
        if below > 0:
            x = x + up.to(x.dtype) * noise_like(x, generator)
    return x


def ancestral(sigma: Tensor, below: Tensor, eta: float) -> tuple[Tensor, Tensor]:
    """The deviation of the noise to add, and the level to step down to first: together they give the level `below`.

    The first is η times the deviation of p(x_s | x_t, x₀) (Song et al. 2021, equation 16), for x = x₀ + σ·n.
    """
    up = eta * below / sigma * (sigma**2 - below**2).sqrt()
    return up, (below**2 - up**2).clamp(min=0).sqrt()


@sampler
def sample_heun(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, generator: Generator | None = None, churn: float = 0.0
) -> Tensor:
    """Draw by algorithm 1 of Karras et al. (2022) or, if `churn` (S_churn) is above 0, by their algorithm 2.

    A step calls `denoise` twice, or once if it ends at 0. The other arguments are those of `sample_ddim`.
    """
    if churn < 0:
        raise ValueError(f"churn: found {churn}, expected 0 or more")
    levels = checked(sigmas)
    gamma = min(churn / (len(levels) - 1), 2**0.5 - 1)
    for level, below in levels.unfold(0, 2, 1):
        sigma = level
        if gamma > 0:
            sigma = level * (1 + gamma)
            x = x + (sigma**2 - level**2).sqrt().to(x.dtype) * noise_like(x, generator)
        step = (below - sigma).to(x.dtype)
        slope = (x - denoise(x, sigma)) / sigma.to(x.dtype)
        ahead = x + step * slope
        if below > 0:
            slope = (slope + (ahead - denoise(ahead, below)) / below.to(x.dtype)) / 2
        x = x + step * slope
    return x


@sampler
def sample_dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Draw by DPM-Solver++(2M) (Lu et al. 2022b, algorithm 2), of order 2; a step that ends at 0 has order 1.

    Deterministic: `generator` is not used. The other arguments are those of `sample_ddim`.
    """
    return _dpmpp(denoise, x, sigmas, generator, 0.0)


@sampler
def sample_dpmpp_2m_sde(
    denoise: Denoise, x: Tensor, sigmas: Tensor, *, generator: Generator | None = None, eta: float = 1.0
) -> Tensor:
    """Draw by SDE-DPM-Solver++(2M) (Lu et al. 2022b, section 5): the solver of `sample_dpmpp_2m` for the reverse SDE.

    `eta` in [0, 1] scales its noise. The other arguments are those of `sample_ddim`.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta: found {eta}, expected a number from 0 to 1")
    return _dpmpp(denoise, x, sigmas, generator, eta)


def _dpmpp(denoise: Denoise, x: Tensor, sigmas: Tensor, generator: Generator | None, eta: float) -> Tensor:
    before: Tensor | None = None
    last_h = sigmas.new_zeros(())
    for sigma, below in checked(sigmas).unfold(0, 2, 1):
        x0 = denoise(x, sigma)
        if below == 0:
            return x0
        h = (sigma / below).log()
        towards = x0
        if before is not None:
            towards = x0 + (h / (2 * last_h)).to(x.dtype) * (x0 - before)
        kept = below / sigma * torch.exp(-eta * h)
        x = kept.to(x.dtype) * x - torch.expm1(-(1 + eta) * h).to(x.dtype) * towards
        if eta > 0:
            x = x + (below * (-torch.expm1(-2 * eta * h)).sqrt()).to(x.dtype) * noise_like(x, generator)
        before, last_h = x0, h
    return x


@sampler
def sample_unipc(denoise: Denoise, x: Tensor, sigmas: Tensor, *, generator: Generator | None = None) -> Tensor:
    """Draw by UniPC-2 with B₂(h) (Zhao et al. 2023, algorithms 1 and 2, data prediction): UniP-2, then UniC-2.

    The corrector uses the same call as the next step's predictor, so a step costs one call. Deterministic: `generator`
    is not used. The other arguments are those of `sample_ddim`.
    """
    levels = checked(sigmas)
    x0 = denoise(x, levels[0])
    before: Tensor | None = None
    last_h = levels.new_zeros(())
    for sigma, below in levels.unfold(0, 2, 1):
        if below == 0:
            return x0
        h = (sigma / below).log()
        phi = torch.expm1(-h)
        base = (below / sigma).to(x.dtype) * x - phi.to(x.dtype) * x0
        ratio = -last_h / h
        slope = torch.zeros_like(x0) if before is None else (before - x0) / ratio.to(x.dtype)
        ahead = base - (phi / 2).to(x.dtype) * slope
        x0_ahead = denoise(ahead, below)
        if before is None:
            x = base - (phi / 2).to(x.dtype) * (x0_ahead - x0)
        else:
            old, new = _corrector(h, ratio)
            x = base - (phi * old).to(x.dtype) * slope - (phi * new).to(x.dtype) * (x0_ahead - x0)
        before, x0, last_h = x0, x0_ahead, h
    return x


def _corrector(h: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor]:
    """UniC-2's coefficients of the old difference, at r = `ratio` < 0, and of the new one, at r = 1 (equation 5)."""
    phi = torch.expm1(-h)
    second = phi / -h - 1
    third = second / -h - 0.5
    first_row, second_row = second / phi, 2 * third / phi
    # Solve [[1, 1], [r, 1]] (old, new) = (first_row, second_row).
    old = (first_row - second_row) / (1 - ratio)
    return old, first_row - old


@sampler
def sample_langevin(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    updates: int = 100,
    rate: float = 0.1,
) -> Tensor:
    """Draw by annealed Langevin dynamics (Song & Ermon 2019, algorithm 1).

    Each level above 0 gets `updates` steps of size α = rate·σ² (the paper's ε is rate·σ_L²), rate in (0, 1]. If the
    last level is 0, the last state is denoised (Jolicoeur-Martineau et al. 2021, section 3.1). A list of one level and
    0 gives plain Langevin dynamics. The other arguments are those of `sample_ddim`.
    """
    if updates < 1 or not 0 < rate <= 1:
        raise ValueError(f"langevin: found {updates} updates at rate {rate}, expected at least 1, 0 < rate <= 1")
    levels = checked(sigmas)
    for sigma in levels[levels > 0]:
        for _ in range(updates):
            drift = (denoise(x, sigma) - x) * (rate / 2)
            x = x + drift + (sigma * rate**0.5).to(x.dtype) * noise_like(x, generator)
    return denoise(x, levels[-2]) if levels[-1] == 0 else x


@sampler
def sample_predictor_corrector(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    corrections: int = 1,
    snr: float = 0.16,
) -> Tensor:
    """Draw from the variance-exploding SDE: reverse diffusion, then Langevin (Song et al. 2021, algorithms 2 and 4).

    The corrector's step is 2·(snr·σ)²: the paper's, with both norms replaced by their expectations, so that a sample
    does not depend on its batch. The other arguments are those of `sample_ddim`.
    """
    if corrections < 0 or snr <= 0:
        raise ValueError(f"corrector: found {corrections} corrections at snr {snr}, expected 0 or more, snr > 0")
    for sigma, below in checked(sigmas).unfold(0, 2, 1):
        gone = sigma**2 - below**2
        x = x + (gone / sigma**2).to(x.dtype) * (denoise(x, sigma) - x)
        if below == 0:
            return x
        x = x + gone.sqrt().to(x.dtype) * noise_like(x, generator)
        for _ in range(corrections):
            drift = 2 * snr**2 * (denoise(x, below) - x)
            x = x + drift + (2 * snr * below).to(x.dtype) * noise_like(x, generator)
    return x
