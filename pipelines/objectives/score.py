"""Score matching without noise, for small problems where the score can be differentiated: see docs/samplers.md.

Denoising score matching over a ladder of noise levels is not here: it is the diffusion objective of a network that
predicts the score (`prediction: score`, `schedule: geometric`), whose L_simple is the loss of Song & Ermon (2019),
equation 6, with λ(σ) = σ².
"""

from collections.abc import Callable

import torch
from torch import Tensor

Score = Callable[[Tensor], Tensor]
"""score(x) -> ∇ log p(x), of the shape of x"""


def exact_score_matching(score: Score, x: Tensor) -> Tensor:
    """tr ∇s(x) + ‖s(x)‖²/2 for each sample, [N] (Hyvärinen 2005, theorem 1). Takes a backward pass per dimension."""
    x, s = _evaluated(score, x)
    trace_N = x.new_zeros(len(x))
    for i, column_N in enumerate(s.flatten(1).unbind(1)):
        (gradient,) = torch.autograd.grad(column_N.sum(), x, create_graph=True)
        trace_N = trace_N + gradient.flatten(1)[:, i]
    return trace_N + s.flatten(1).square().sum(1) / 2


def sliced_score_matching(score: Score, x: Tensor, directions: Tensor) -> Tensor:
    """vᵀ∇s(x)v + ‖s(x)‖²/2 for each sample, [N] (Song et al. 2019, equation 8, variance reduced).

    `directions` v have the shape of x and identity covariance (normal or random signs). Takes one backward pass.
    """
    x, s = _evaluated(score, x)
    (gradient,) = torch.autograd.grad((s * directions).sum(), x, create_graph=True)
    along_N = (gradient * directions).flatten(1).sum(1)
    return along_N + s.flatten(1).square().sum(1) / 2


def _evaluated(score: Score, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.detach().requires_grad_()
    return x, score(x)
