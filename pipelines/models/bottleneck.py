"""Bottlenecks between an encoder and a decoder: a normal latent, a learnt codebook, or a grid.

Each has `width_in` (the channels of its input), `width` (the channels of its output), and

- `forward(h, draws)`: the pass used in training; returns a `Through`;
- `latent(h)`: the latent that a diffusion model is trained on, [N, width, H, W];
- `settle(latent)`: turns any latent into one that the decoder was trained on;
- `update()`: call this after the optimizer's step.

The two that quantise also have `size`, `codes(latent)` and `embed(codes)`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from headrace.draws import Draws
from headrace.recipe.discrete import FSQ, KL


@dataclass(frozen=True)
class Through:
    """The output of a bottleneck in training."""

    z_NCHW: Tensor
    """the decoder's input"""
    penalties: Mapping[str, Tensor]
    """scalars to minimise in addition to the reconstruction error, by name"""
    figures: Mapping[str, Tensor] = field(default_factory=dict)
    """detached scalars to log"""


def straight_through(z: Tensor, quantised: Tensor) -> Tensor:
    """The value of `quantised` with the gradient of z (Bengio et al. 2013; van den Oord et al. 2017, section 3.2)."""
    return z + (quantised - z).detach()


def perplexity(codes: Tensor, size: int) -> Tensor:
    """The exponential of the entropy of the codes' frequencies: n if n of the `size` codes are used equally often."""
    share_K = torch.bincount(codes.flatten(), minlength=size).double() / codes.numel()
    return torch.special.entr(share_K).sum().exp().float()


class Normal(nn.Module):
    """z = μ + σ·ε, with the divergence of N(μ, σ²) from N(0, 1) (Kingma & Welling 2014, appendix B)."""

    def __init__(self, recipe: KL) -> None:
        super().__init__()
        self.width, self.width_in = recipe.channels, 2 * recipe.channels

    def forward(self, h_NCHW: Tensor, draws: Draws) -> Through:
        """Sample the latent. The penalty `kl` is summed over a latent and averaged over samples."""
        mean_NCHW, log_variance_NCHW = h_NCHW.float().chunk(2, 1)
        log_variance_NCHW = log_variance_NCHW.clamp(-30, 20)
        noise_NCHW = draws.normal("latent", *mean_NCHW.shape[1:])
        z_NCHW = mean_NCHW + (log_variance_NCHW / 2).exp() * noise_NCHW
        divergence = (mean_NCHW.square() + log_variance_NCHW.exp() - 1 - log_variance_NCHW) / 2
        return Through(z_NCHW, {"kl": divergence.flatten(1).sum(1).mean()})

    def latent(self, h_NCHW: Tensor) -> Tensor:
        """The mean μ."""
        return h_NCHW.float().chunk(2, 1)[0]

    def settle(self, latent_NCHW: Tensor) -> Tensor:
        """The latent unchanged: the decoder takes any latent."""
        return latent_NCHW

    def update(self) -> None:
        """Does nothing: this bottleneck has no running state."""


class Grid(nn.Module):
    """Each channel is bounded to `levels` values by tanh and rounded (Mentzer et al. 2023, section 3)."""

    levels_C: Tensor
    strides_C: Tensor

    def __init__(self, recipe: FSQ) -> None:
        super().__init__()
        self.size = recipe.codes
        self.width = self.width_in = len(recipe.levels)
        strides = [math.prod(recipe.levels[:channel]) for channel in range(self.width)]
        self.register_buffer("levels_C", torch.tensor(recipe.levels), persistent=False)
        self.register_buffer("strides_C", torch.tensor(strides), persistent=False)

    def forward(self, h_NCHW: Tensor, draws: Draws) -> Through:
        """Quantise. There is no penalty. The figure `perplexity` is that of these samples' codes."""
        latent_NCHW = self.latent(h_NCHW)
        codes_NHW = self.codes(latent_NCHW)
        z_NCHW = straight_through(latent_NCHW, self.embed(codes_NHW))
        return Through(z_NCHW, {}, {"perplexity": perplexity(codes_NHW, self.size)})

    def latent(self, h_NCHW: Tensor) -> Tensor:
        """Each channel in [−1, 1]."""
        return h_NCHW.float().tanh()

    def settle(self, latent_NCHW: Tensor) -> Tensor:
        """The nearest point of the grid."""
        return self.embed(self.codes(latent_NCHW))

    def codes(self, latent_NCHW: Tensor) -> Tensor:
        """The index of the grid's nearest point, with NaN taken as 0: int64 [N, H, W]."""
        top_C11 = (self.levels_C - 1)[:, None, None]
        share_NCHW = (latent_NCHW.float().nan_to_num().clamp(-1, 1) + 1) / 2
        digits_NCHW = (share_NCHW * top_C11).round().long()
        return (digits_NCHW * self.strides_C[:, None, None]).sum(1)

    def embed(self, codes_NHW: Tensor) -> Tensor:
        """The points of the grid: float32 [N, C, H, W] in [−1, 1]."""
        levels_C11 = self.levels_C[:, None, None]
        digits_NCHW = codes_NHW[:, None] // self.strides_C[:, None, None] % levels_C11
        return digits_NCHW.float() * 2 / (levels_C11 - 1) - 1

    def update(self) -> None:
        """Does nothing: this bottleneck has no running state."""
