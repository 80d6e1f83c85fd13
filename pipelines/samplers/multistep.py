"""Multistep solvers: one call of the denoiser per step, which reuse the results of earlier calls.

All integrate x over λ = −log σ. In the coordinates x = x₀ + σ·n the signal's factor α is 1.
"""

import torch
from torch import Tensor

from headrace.samplers.denoise import Denoise, Generator, checked, noise_like, sampler


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
