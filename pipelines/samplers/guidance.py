"""Guidance: wrappers that turn a denoiser into another denoiser, so that they work with every sampler."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from headrace.models.controlnet import Control
from headrace.models.text import Context
from headrace.samplers.denoise import Denoise

Cond = TypeVar("Cond", Context, Control)
Classifier = Callable[[Tensor, Tensor], Tensor]
"""classifier(x_NCHW, sigma) -> logits [N, K] of labels, trained on noisy images"""


def classifier_free(
    denoise: Callable[[Tensor, Tensor, Cond], Tensor],
    cond: Cond,
    null: Cond,
    scale: float,
    *,
    interval: tuple[float, float] = (0.0, math.inf),
    rescale: float = 0.0,
) -> Denoise:
    """Classifier-free guidance (Ho & Salimans 2022, equation 6, with scale = 1 + w), in one batched call per step.

    `cond` is the conditioning for `denoise(x_NCHW, sigma, cond)`. `null` is that of the null caption or of a negative
    prompt, for as many samples; in a ControlNet's guess mode its control is `control.ignored()`. Scale 1 is no guidance
    and scale 0 is unconditional; each is a single plain call. Levels outside `interval` (low < σ ≤ high) are not guided
    (Kynkäänniemi et al. 2024). `rescale` in [0, 1] scales the deviation of each result back towards that without
    guidance (Lin et al. 2024, section 3.4). Raises ValueError if `rescale` or `interval` is out of range.
    """
    if not 0 <= rescale <= 1:
        raise ValueError(f"rescale: found {rescale}, expected a number from 0 to 1")
    if not 0 <= interval[0] < interval[1]:
        raise ValueError(f"interval: found {interval}, expected 0 <= low < high")
    both = joined(null, cond)

    def guided(x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        if scale == 1 or not interval[0] < sigma <= interval[1]:
            return denoise(x_NCHW, sigma, cond)
        if scale == 0 and rescale == 0:
            return denoise(x_NCHW, sigma, null)
        without, plain = denoise(torch.cat([x_NCHW, x_NCHW]), sigma, both).chunk(2)
        x0_NCHW = without + scale * (plain - without)
        if rescale == 0:
            return x0_NCHW
        dims = tuple(range(1, x0_NCHW.dim()))
        ratio = plain.std(dims, keepdim=True) / x0_NCHW.std(dims, keepdim=True).clamp(min=1e-8)
        return x0_NCHW * (1 + rescale * (ratio - 1))

    return guided


def joined(first: Any, second: Any) -> Any:
    """Two conditions (tensors, or tuples of conditions) as one batch."""
    if isinstance(first, Tensor):
        return torch.cat([first, second])
    parts = [joined(*pair) for pair in zip(first, second, strict=True)]
    return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)


def classifier_guided(denoise: Denoise, classifier: Classifier, labels_N: Tensor, scale: float) -> Denoise:
    """Classifier guidance (Dhariwal & Nichol 2021, algorithm 2): D + scale·σ²·∇ₓ log p(y | x, σ).

    `labels` are int64 [N]. Scale 0 is no guidance; scale 1 gives the exact posterior if the classifier is exact.
    """

    def guided(x_NCHW: Tensor, sigma: Tensor) -> Tensor:
        with torch.enable_grad():
            x_in = x_NCHW.detach().requires_grad_()
            log_p_NK = F.log_softmax(classifier(x_in, sigma), -1)
            chosen = log_p_NK.gather(1, labels_N[:, None]).sum()
            (gradient,) = torch.autograd.grad(chosen, x_in)
        return denoise(x_NCHW, sigma) + (scale * sigma**2).to(x_NCHW.dtype) * gradient

    return guided
