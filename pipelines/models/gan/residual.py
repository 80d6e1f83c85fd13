"""Residual networks without normalisation: the backbone of R3GAN (Huang et al. 2024, section 4 and figure 2).

A block is an inverted bottleneck: a 1×1, a grouped 3×3 and a 1×1 convolution. Its last layer starts at zero, and the
others are scaled down by the number of blocks (Fixup: Zhang, Dauphin & Ma 2019). Resampling is bilinear.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.models.blocks import zero
from headrace.models.conditions import Conditioning
from headrace.models.gan.conditioning import Head, Start
from headrace.models.gan.dcgan import SLOPE
from headrace.recipe.gan import Gan

EXPANSION = 2
"""channels inside a block, as a multiple of those outside"""
GROUP = 16
"""the most channels in a group"""
GAIN = math.sqrt(2 / (1 + SLOPE**2))
"""the leaky ReLU's gain, which preserves the variance (He et al. 2015, equation 15)"""


def scaled(conv: nn.Conv2d, gain: float) -> nn.Conv2d:
    """`conv` with weights of deviation gain/√fan_in and no bias."""
    nn.init.normal_(conv.weight, std=gain / math.sqrt(conv.weight[0].numel()))
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv


class ResidualBlock(nn.Module):
    """x + f(x), where f starts at zero. `depth` is the number of blocks in the network."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        inner = EXPANSION * channels
        groups = inner // math.gcd(inner, GROUP)
        gain = GAIN * depth**-0.25  # Fixup's L^(−1/(2m−2)) with m = 3 layers
        self.widen = scaled(nn.Conv2d(channels, inner, 1), gain)
        self.mix = scaled(nn.Conv2d(inner, inner, 3, padding=1, groups=groups), gain)
        self.narrow = zero(nn.Conv2d(inner, channels, 1, bias=False))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Returns a map of the same shape."""
        h_NCHW = F.leaky_relu(self.widen(x_NCHW), SLOPE)
        return x_NCHW + self.narrow(F.leaky_relu(self.mix(h_NCHW), SLOPE))


class Upsample(nn.Module):
    """A 1×1 convolution that changes the channels, then bilinear interpolation to twice the size."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = scaled(nn.Conv2d(channels_in, channels_out, 1, bias=False), 1.0)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Returns [N, channels_out, 2H, 2W]."""
        return F.interpolate(self.conv(x_NCHW), scale_factor=2, mode="bilinear", align_corners=False)


class Downsample(nn.Module):
    """The mean of each 2×2 pixels (bilinear interpolation to half the size), then a 1×1 convolution."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv = scaled(nn.Conv2d(channels_in, channels_out, 1, bias=False), 1.0)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Returns [N, channels_out, H/2, W/2]."""
        return self.conv(F.avg_pool2d(x_NCHW, 2))


class ResidualGenerator(nn.Module):
    """A learnt coarse map scaled by a linear function of z, then residual blocks and upsampling. There is no tanh."""

    def __init__(self, recipe: Gan) -> None:
        super().__init__()
        self.latent = recipe.latent
        self.start = Start(recipe)
        widths = [recipe.channels * multiple for multiple in reversed(recipe.multipliers)]
        self.coarse_CHW = nn.Parameter(torch.randn(widths[0], recipe.base, recipe.base))
        self.first = nn.Linear(self.start.width, widths[0], bias=False)
        nn.init.normal_(self.first.weight, std=self.start.width**-0.5)
        depth = recipe.blocks * len(widths)
        layers: list[nn.Module] = [ResidualBlock(widths[0], depth) for _ in range(recipe.blocks)]
        for narrow, wide in pairwise(widths):
            layers += [Upsample(narrow, wide), *(ResidualBlock(wide, depth) for _ in range(recipe.blocks))]
        self.layers = nn.ModuleList(layers)
        self.patch = recipe.patch
        self.out = scaled(nn.Conv2d(widths[-1], recipe.image_channels * recipe.patch**2, 1), 1.0)

    def forward(self, z_NZ: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns images [N, C, H, W], roughly in [−1, 1], float32."""
        x_NCHW = self.coarse_CHW * self.first(self.start(z_NZ, conditioning))[:, :, None, None]
        for layer in self.layers:
            x_NCHW = layer(x_NCHW)
        return F.pixel_shuffle(self.out(x_NCHW).float(), self.patch)


class ResidualDiscriminator(nn.Module):
    """The generator mirrored: residual blocks and downsampling, then one filter over the whole of each channel."""

    def __init__(self, recipe: Gan) -> None:
        super().__init__()
        widths = [recipe.channels * multiple for multiple in recipe.multipliers]
        depth = recipe.blocks * len(widths)
        self.patch = recipe.patch
        self.first = scaled(nn.Conv2d(recipe.image_channels * recipe.patch**2, widths[0], 1), 1.0)
        layers: list[nn.Module] = [ResidualBlock(widths[0], depth) for _ in range(recipe.blocks)]
        for wide, narrow in pairwise(widths):
            layers += [Downsample(wide, narrow), *(ResidualBlock(narrow, depth) for _ in range(recipe.blocks))]
        self.layers = nn.ModuleList(layers)
        self.pool = scaled(nn.Conv2d(widths[-1], widths[-1], recipe.base, groups=widths[-1], bias=False), 1.0)
        self.head = Head(recipe, widths[-1])

    def forward(self, x_NCHW: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns [N], float32."""
        x_NCHW = self.first(F.pixel_unshuffle(x_NCHW, self.patch))
        for layer in self.layers:
            x_NCHW = layer(x_NCHW)
        return self.head(self.pool(x_NCHW).flatten(1), conditioning)
