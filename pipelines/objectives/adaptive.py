"""The adaptive weight of an adversary (Esser et al. 2021, equation 7), without a second pass through the network.

Both losses are functions of the painted image, so their gradients with respect to the image come first, from two small
graphs that are freed at once. The last layer turns them into gradients with respect to its weight matrix, whose norms
give the adaptive weight. One backward pass from the image then sends the weighted sum through the network. Because no
graph is used twice, activation checkpointing computes each segment again only once, and the gradients of ranks are
averaged as usual.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from headrace.ranks import collectives as ranks

SMALLEST = 1e-6
"""δ of equation 7"""


def adaptive_weight(
    paint: Callable[[Tensor], Tensor],
    last_weight: Tensor,
    features: Tensor,
    reconstruction_gradient: Tensor,
    adversarial_gradient: Tensor,
    largest: float,
) -> Tensor:
    """‖∇ reconstruction‖ / (‖∇ adversarial‖ + δ), clamped to [0, largest]: a detached scalar, the same on all ranks.

    `paint(features)` makes the image with the last layer, whose weight is `last_weight`. The two gradients are those of
    the mean losses with respect to that image. The norms are of gradients averaged over the ranks.
    """
    with torch.enable_grad():
        image = paint(features.detach())
    both = [
        torch.autograd.grad(image, last_weight, gradient.to(image.dtype), retain_graph=retain)[0].float()
        for gradient, retain in ((reconstruction_gradient, True), (adversarial_gradient, False))
    ]
    reconstruction, adversarial = ranks.mean(torch.stack(both)).flatten(1).norm(dim=1)
    return (reconstruction / (adversarial + SMALLEST)).clamp(0, largest)


class WithGradient(torch.autograd.Function):
    """A scalar whose gradient with respect to `x` is already known."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gradient: Tensor, value: Tensor) -> Tensor:
        """Returns `value`."""
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> Any:
        """Returns the known gradient times the upstream one."""
        (gradient,) = ctx.saved_tensors
        return upstream[0] * gradient, None, None


def gradient_at(loss: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The value of the scalar `loss(x)` (detached) and its gradient with respect to x."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        value = loss(leaf)
        (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient
