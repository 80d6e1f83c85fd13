"""From an image to its noise: DDIM inversion, interpolation between two images, and likelihoods by the ODE."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from headrace.samplers.denoise import Denoise, Generator, checked, noise_like


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


def log_likelihood(
    denoise: Denoise,
    x: Tensor,
    sigmas: Tensor,
    *,
    generator: Generator | None = None,
    probes: int = 1,
    prior_variance: float = 0.0,
) -> Tensor:
    """log p(x) in nats, [N], under the model's density at the lowest level (Song et al. 2021, equation 39).

    `sigmas` descend and end above 0. The ODE is solved upwards by Heun's method; its divergence is estimated with
    `probes` random sign vectors (Hutchinson 1990). At the highest level the density is taken to be normal with variance
    σ² + `prior_variance`: give the data's variance, or 0 where σ is much larger. Raises ValueError for a level of 0.
    """
    levels = checked(sigmas).flip(0)
    if levels[0] == 0:
        raise ValueError("sigmas: found a last level of 0, expected a lowest level above 0, where a density exists")
    log_volume = x.new_zeros(len(x))
    signs = [noise_like(x, generator).sign() for _ in range(probes)]
    for sigma, above in levels.unfold(0, 2, 1):
        step = (above - sigma).to(x.dtype)
        slope, divergence = _flow(denoise, x, sigma, signs)
        next_slope, next_divergence = _flow(denoise, x + step * slope, above, signs)
        x = x + step * (slope + next_slope) / 2
        log_volume = log_volume + step * (divergence + next_divergence) / 2
    variance = float(levels[-1]) ** 2 + prior_variance
    size = x[0].numel()
    log_prior = -x.flatten(1).square().sum(1) / (2 * variance) - size / 2 * math.log(2 * math.pi * variance)
    return log_prior + log_volume


def bits_per_dimension(log_likelihood_N: Tensor, size: int, levels: int = 256) -> Tensor:
    """Bits per dimension [N] of data with `levels` values spread over [−1, 1], from nats for `size` dimensions."""
    return -log_likelihood_N / (size * math.log(2)) + math.log2((levels - 1) / 2)


def _flow(denoise: Denoise, x: Tensor, sigma: Tensor, signs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """dx/dσ = (x − D)/σ, and its divergence [N] as estimated with `signs`."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        slope = (x - denoise(x, sigma)) / sigma.to(x.dtype)
        divergence = x.new_zeros(len(x))
        for sign in signs:
            (gradient,) = torch.autograd.grad(slope, x, sign, retain_graph=True)
            divergence = divergence + (gradient * sign).flatten(1).sum(1)
    return slope.detach(), divergence.detach() / len(signs)
