"""Guidance: wrappers that make a denoiser of a denoiser."""

from collections.abc import Callable

import torch
from torch import Tensor

from pipelines.models.text import Context
from pipelines.samplers.denoise import Denoise

Conditional = Callable[[Tensor, Tensor, Context], Tensor]


def both(first: Context, second: Context) -> Context:
    """Two contexts as one batch."""
    return Context(*(torch.cat(pair) for pair in zip(first, second, strict=True)))


def classifier_free(denoise: Conditional, context: Context, null: Context, scale: float) -> Denoise:
    """Classifier-free guidance (Ho & Salimans 2022, equation 6, with scale = 1 + w): one batched call a step.

    `null` is the context of the null caption (or of a negative prompt), of the same N; scale 1 is no guidance.
    """
    if scale == 1:
        return lambda x, sigma: denoise(x, sigma, context)
    together = both(null, context)

    def guided(x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        without, with_caption = denoise(torch.cat([x_NCHW, x_NCHW]), sigma, together).chunk(2)
        return without + scale * (with_caption - without)

    return guided
