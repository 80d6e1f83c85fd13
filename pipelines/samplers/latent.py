"""DDIM inversion of images to noise, and interpolation between latents."""

import torch
from torch import Tensor

from headrace.samplers.denoise import Denoise, checked


def invert_ddim(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Encode images as the noise that `sample_ddim` (η = 0) decodes to them (Song et al. 2021, section 4.3).

    Give clean images as `x` if `sigmas` (descending, as for sampling) end with 0. Returns states at level sigmas[0].
    The ODE is solved upwards by Euler steps, so decoding returns the image up to the error of the steps. The first
    step, from 0, uses the denoiser at the lowest level above 0.
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
