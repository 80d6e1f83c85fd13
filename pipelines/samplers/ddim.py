"""DDIM and DDPM: ancestral sampling over any sub-sequence of noise levels."""

from typing import Literal

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
