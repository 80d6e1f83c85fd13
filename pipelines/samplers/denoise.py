"""What every sampler takes, a denoiser, a list of noise levels and noise; and how recipes know of it."""

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
    """Make `sample_x(denoise, x, sigmas, *, generator, …)` known to recipes as x.

    Its further keyword arguments are the keys of `sampling` of the same names, where a recipe sets them.
    """
    SAMPLERS[function.__name__.removeprefix("sample_")] = function
    return function


def checked(sigmas: Tensor) -> Tensor:
    """`sigmas` as a list of levels to walk down: descending, at least one above 0. Raises ValueError if it is not."""
    if sigmas.dim() != 1 or len(sigmas) < 2:
        raise ValueError(f"sigmas: found shape {list(sigmas.shape)}, expected at least two noise levels")
    if not bool((sigmas.diff() < 0).all()) or sigmas[-1] < 0 or not bool(sigmas.isfinite().all()):
        raise ValueError(f"sigmas: found {sigmas.tolist()[:8]}…, expected finite levels, each below the one before it")
    return sigmas


class SampleNoise:
    """A sampler's noise, call after call, that belongs to each sample: the batch it is drawn in changes nothing.

    Takes the place of a torch generator; one object for one batch, whose samples are those of `draws`.
    """

    def __init__(self, draws: Draws) -> None:
        self._draws = draws
        self._calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        """The next standard normal noise, of the shape [N, …], type and device of `x`."""
        self._calls += 1
        return self._draws.normal(f"noise {self._calls}", *x.shape[1:]).to(x)


Generator = torch.Generator | SampleNoise
"""where a sampler's noise comes from"""


def noise_like(x: Tensor, generator: Generator | None) -> Tensor:
    """Standard normal noise of the shape of `x`, on its device whichever device the generator is on."""
    if isinstance(generator, SampleNoise):
        return generator(x)
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, device=device, dtype=x.dtype).to(x.device)
