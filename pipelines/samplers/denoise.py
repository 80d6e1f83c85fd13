"""What every sampler takes: a denoiser and a list of noise levels."""

from collections.abc import Callable

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
"""denoise(x_NCHW, sigma) -> E[x₀ | x, σ]; sigma is a scalar tensor"""


def checked(sigmas: Tensor) -> Tensor:
    """`sigmas` as a list of levels to walk down: descending, at least one above 0. Raises ValueError if it is not."""
    if sigmas.dim() != 1 or len(sigmas) < 2:
        raise ValueError(f"sigmas: found shape {list(sigmas.shape)}, expected at least two noise levels")
    if not bool((sigmas.diff() < 0).all()) or sigmas[-1] < 0 or not bool(sigmas.isfinite().all()):
        raise ValueError(f"sigmas: found {sigmas.tolist()[:8]}…, expected finite levels, each below the one before it")
    return sigmas


def noise_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise of the shape of `x`, on its device whichever device the generator is on."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
