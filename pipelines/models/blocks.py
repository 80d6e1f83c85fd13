"""The parts of a U-Net: noise embedding, residual block, and attention over a feature map."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.models.attention import Attention
from headrace.models.text import Context


def zero(module: nn.Module) -> nn.Module:
    """`module` with all its parameters set to zero, so that its branch adds nothing when training starts."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def group_norm(channels: int) -> nn.GroupNorm:
    """Group normalisation with at most 32 groups of at least 16 channels.

    The CPU kernel for channels_last is many times slower if a group is narrower than a vector register.
    """
    groups = min(32, max(1, channels // 16))
    while channels % groups:
        groups -= 1
    return nn.GroupNorm(groups, channels)


def loud(layer: nn.Linear) -> nn.Linear:
    """`layer` with weights of standard deviation 2/√inputs, so that its output matters from the first step on."""
    nn.init.normal_(layer.weight, std=2 / math.sqrt(layer.in_features))
    return layer


class NoiseEmbedding(nn.Module):
    """Sines and cosines of the noise level (Ho et al. 2020, appendix B), then two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.frequencies = width // 2
        self.layers = nn.Sequential(nn.Linear(2 * self.frequencies, width), nn.SiLU(), loud(nn.Linear(width, width)))

    def forward(self, c_noise_N: Tensor) -> Tensor:
        """Returns [N, width]."""
        exponents = torch.arange(self.frequencies, dtype=torch.float32, device=c_noise_N.device) / self.frequencies
        angles = c_noise_N.float()[:, None] * torch.exp(-math.log(10_000.0) * exponents)
        return self.layers(torch.cat([angles.cos(), angles.sin()], 1))


POSITION_FEATURES = 16


def positions(x_NCHW: Tensor) -> Tensor:
    """Each position of a map as [1, 16, H, W]: sines and cosines of π/2, π, 2π and 4π times its coordinates.

    Coordinates run from −1 to 1 over any height and width. Without them a convolution can only learn its
    position from zero padding, and learning the shapes in captions takes many more steps.
    """
    axes = []
    for size, shape in ((x_NCHW.shape[-2], (-1, 1)), (x_NCHW.shape[-1], (1, -1))):
        coordinate = (torch.arange(size, device=x_NCHW.device, dtype=torch.float32) + 0.5) * (2 / size) - 1
        angles = coordinate.view(1, *shape) * (math.pi * 2.0 ** torch.arange(-1, 3, device=x_NCHW.device)).view(
            -1, 1, 1
        )
        axes.append(torch.cat([angles.sin(), angles.cos()]).expand(-1, *x_NCHW.shape[-2:]))
    return torch.cat(axes)[None].to(x_NCHW.dtype)


class MapAttention(nn.Module):
    """Self-attention over the positions of a feature map, then cross-attention to captions if the network has any."""

    def __init__(self, channels: int, heads: int, context_width: int | None = None) -> None:
        """`context_width`: channels of a caption's token; None for a network without captions."""
        super().__init__()
        self.positions = nn.Linear(POSITION_FEATURES, channels)
        self.norm_self = group_norm(channels)
        self.attend_self = Attention(channels, heads)
        zero(self.attend_self.out)
        self.attend_cross: Attention | None = None
        if context_width is not None:
            self.norm_cross = nn.LayerNorm(channels)
            self.attend_cross = Attention(channels, heads, context_width)
            zero(self.attend_cross.out)

    def forward(self, x_NCHW: Tensor, context: Context | None = None) -> Tensor:
        """Returns a map of the same shape."""
        height, width = x_NCHW.shape[-2:]
        x_NLC = x_NCHW.flatten(2).transpose(1, 2)
        where_NLC = self.positions(positions(x_NCHW).flatten(2).transpose(1, 2))
        x_NLC = x_NLC + self.attend_self(self.norm_self(x_NCHW).flatten(2).transpose(1, 2) + where_NLC)
        if self.attend_cross is not None and context is not None:
            x_NLC = x_NLC + self.attend_cross(self.norm_cross(x_NLC) + where_NLC, context.tokens_NLD, context.mask_NL)
        return x_NLC.transpose(1, 2).unflatten(2, (height, width))


class Canvas(nn.Module):
    """A coarse feature map made from the embedding alone: a learnt sum of cosines, 4 along each axis.

    It is the shortest path from a caption to positions in the image. With it, a small U-Net on little data learns the
    shapes in captions in about half as many steps. The cosines are those of the discrete cosine transform (Ahmed et al.
    1974), so the map can have any size.
    """

    def __init__(self, embedding: int, channels: int, waves: int = 4) -> None:
        super().__init__()
        self.waves = waves
        self.weights = nn.Linear(embedding, channels * waves**2)

    def forward(self, embedding_NE: Tensor, height: int, width: int) -> Tensor:
        """Returns [N, channels, height, width]."""
        weights_NCKK = self.weights(embedding_NE).unflatten(1, (-1, self.waves, self.waves))
        rows_KH, columns_KW = (self._cosines(size, weights_NCKK) for size in (height, width))
        return rows_KH.T @ weights_NCKK @ columns_KW

    def _cosines(self, size: int, like: Tensor) -> Tensor:
        places = (torch.arange(size, device=like.device, dtype=torch.float32) + 0.5) * (math.pi / size)
        return (torch.arange(self.waves, device=like.device)[:, None] * places).cos().to(like.dtype)


class UNetBlock(nn.Module):
    """Resample, a residual block whose second norm is scaled and shifted by the embedding, then attention.

    The scale and shift are the adaptive group normalisation of Dhariwal & Nichol (2021), section 3.1.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        embedding: int,
        *,
        resample: Literal["down", "up"] | None = None,
        attention: MapAttention | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.norm_in = group_norm(channels_in)
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.modulation = nn.Linear(embedding, 2 * channels_out)
        self.norm_out = group_norm(channels_out)
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zero(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()
        self.attention = attention

    def forward(
        self, x_NCHW: Tensor, embedding_NE: Tensor, context: Context | None = None, skip_NCHW: Tensor | None = None
    ) -> Tensor:
        """Returns [N, channels_out, H', W']. `skip`, already of that size, is concatenated to the resampled input."""
        if self.resample == "down":
            x_NCHW = F.avg_pool2d(x_NCHW, 2)
        elif self.resample == "up":
            x_NCHW = F.interpolate(x_NCHW, scale_factor=2, mode="nearest")
        if skip_NCHW is not None:
            x_NCHW = torch.cat([x_NCHW, skip_NCHW], 1)
        scale_NC11, shift_NC11 = self.modulation(embedding_NE)[:, :, None, None].chunk(2, 1)
        h_NCHW = self.conv_in(F.silu(self.norm_in(x_NCHW)))
        h_NCHW = torch.addcmul(shift_NC11, self.norm_out(h_NCHW), scale_NC11 + 1)
        x_NCHW = self.skip(x_NCHW) + self.conv_out(self.dropout(F.silu(h_NCHW)))
        return x_NCHW if self.attention is None else self.attention(x_NCHW, context)
