"""Heun's second-order method along the probability-flow ODE."""

from torch import Tensor

from headrace.samplers.denoise import Denoise, Generator, checked, noise_like, sampler


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
