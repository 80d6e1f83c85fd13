"""What keeps a discriminator smooth: penalties on its gradient, and bounds on its weights.

Penalties are differentiated twice: their value is a gradient with respect to images, and their own gradient is one with
respect to weights.
"""

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

Criticism = Callable[[Tensor], Tensor]
"""D(images [N, …]) -> [N]"""


def squared_gradient(output_N: Tensor, *inputs: Tensor) -> list[Tensor]:
    """‖∇ₓ D(x)‖² of each sample, [N] float32, for each of the `inputs` that `output` was computed from.

    Each output may depend on its own sample alone. The graph is kept, so that the result can be differentiated.
    """
    gradients = torch.autograd.grad(output_N.sum(), inputs, create_graph=True)
    return [gradient.float().flatten(1).square().sum(1) for gradient in gradients]


def between(real: Tensor, fake: Tensor, share_N: Tensor) -> Tensor:
    """Points on the straight lines from generated samples (share 0) to real ones (1), in the shape of both."""
    return torch.lerp(fake, real, share_N.view(-1, *[1] * (real.ndim - 1)))


def gradient_norm_between(criticise: Criticism, real: Tensor, fake: Tensor, share_N: Tensor) -> Tensor:
    """‖∇ D(x̂)‖ at points x̂ between real and generated samples, [N] (Gulrajani et al. 2017, equation 3)."""
    x = between(real, fake, share_N).requires_grad_()
    (squared_N,) = squared_gradient(criticise(x), x)
    return (squared_N + 1e-12).sqrt()  # at 0 the square root has no derivative


def gamma_at(samples_N: Tensor, start: float, end: float, burn_in: int) -> Tensor:
    """γ of R1 and R2 once `samples` (int64 [N]) were seen: half a cosine from `start` to `end` over the burn-in.

    Huang et al. 2024, table 7, lower γ so over the burn-in.
    """
    done_N = (samples_N.to(torch.float32) / max(1, burn_in)).clamp(max=1)
    return end + (start - end) * 0.5 * (1 + torch.cos(math.pi * done_N))


@torch.no_grad()
def clip_weights(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Clip every weight to [−largest, largest], in place (Arjovsky, Chintala & Bottou 2017, algorithm 1, line 7)."""
    weights: list[Tensor] = list(parameters)
    torch._foreach_clamp_min_(weights, -largest)
    torch._foreach_clamp_max_(weights, largest)
