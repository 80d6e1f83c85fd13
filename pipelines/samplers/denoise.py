"""What every sampler takes (a denoiser, noise levels, noise), and the registry of samplers for recipes."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from headrace.draws import Draws

Denoise = Callable[[Tensor, Tensor], Tensor]
"""denoise(x_NCHW, sigma) -> E[x₀ | x, σ]; sigma is a scalar tensor"""

SAMPLERS: dict[str, Callable[..., Tensor]] = {}
"""every sampler that a `sampling` section may name"""

Sampler = TypeVar("Sampler", bound=Callable[..., Tensor])


def sampler(function: Sampler) -> Sampler:
    """Register `sample_x(denoise, x, sigmas, *, generator, …)` for recipes under the name x.

    Its other keyword arguments are set from the keys of `sampling` with the same names, if a recipe has them.
    """
    SAMPLERS[function.__name__.removeprefix("sample_")] = function
    return function


def checked(sigmas: Tensor) -> Tensor:
    """`sigmas` unchanged. Raises ValueError unless they are at least two finite, descending levels, none below 0."""
    if sigmas.dim() != 1 or len(sigmas) < 2:
        raise ValueError(f"sigmas: found shape {list(sigmas.shape)}, expected at least two noise levels")
    if not bool((sigmas.diff() < 0).all()) or sigmas[-1] < 0 or not bool(sigmas.isfinite().all()):
        raise ValueError(f"sigmas: found {sigmas.tolist()[:8]}…, expected finite levels, each below the one before it")
    return sigmas


class SampleNoise:
    """A sampler's noise, fixed for each sample: it does not depend on the batch that the sample is drawn in.

    It takes the place of a torch generator. Make one object per batch, whose samples are those of `draws`.
    """

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        """The next standard normal noise, with the shape [N, …], dtype and device of `x`."""
        self._calls += 1
        return self._draws.normal(f"noise {self._calls}", *x.shape[1:]).to(x)


Generator = torch.Generator | SampleNoise
"""where a sampler's noise comes from"""


def noise_like(x: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal noise with the shape and device of `x`, on whichever device the generator is."""
    if isinstance(generator, SampleNoise):
        return generator(x)
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
