"""Images as the noise they come from: DDIM inversion, and interpolation between two of them."""

import torch
from torch import Tensor

from headrace.samplers.denoise import Denoise, checked


def invert_ddim(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Encode images to the noise that `sample_ddim` (η = 0) decodes (Song et al. 2021, section 4.3).

    `x` is clean if `sigmas` (descending, as for sampling) end at 0; returns a state at the level sigmas[0]. The ODE is
    followed by Euler steps upwards, so decoding returns to the image up to the error of the steps. The first step,
    from 0, uses the denoiser at the lowest level above it.
    """
    levels = checked(sigmas).flip(0)
    for sigma, above in levels.unfold(0, 2, 1):
        known = sigma if sigma > 0 else above
        slope = (x - denoise(x, known)) / known.to(x.dtype)
        x = x + (above - sigma).to(x.dtype) * slope
    return x


def interpolate(first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
    """Spherical interpolation (Shoemake 1985) of two latents [C, H, W] at `shares` [N] in [0, 1]: [N, C, H, W]."""
    cosine = torch.nn.functional.cosine_similarity(first.flatten(), second.flatten(), dim=0).clamp(-1, 1)
    angle = cosine.arccos()
    if angle < 1e-4:
        weights = torch.stack([1 - shares, shares])
    else:
        weights = torch.stack([((1 - shares) * angle).sin(), (shares * angle).sin()]) / angle.sin()
    return torch.einsum("kn,k...->n...", weights.to(first.dtype), torch.stack([first, second]))
