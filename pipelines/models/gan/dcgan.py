"""Strided convolutions without pooling: DCGAN (Radford, Metz & Chintala 2016, section 3)."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from headrace.models.blocks import group_norm
from headrace.models.conditions import Conditioning
from headrace.models.gan.conditioning import Head, Start
from headrace.recipe.gan import Gan

SLOPE = 0.2
"""the leaky ReLU's negative slope"""


def normalisation(kind: str, channels: int) -> nn.Module:
    """The layer that `model.norm` names."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return group_norm(channels) if kind == "group" else nn.Identity()


class UpBlock(nn.Module):
    """Normalisation, ReLU, and a transposed convolution that doubles the size."""

    def __init__(self, channels_in: int, channels_out: int, norm: str) -> None:
        super().__init__()
        self.norm = normalisation(norm, channels_in)
        self.conv = nn.ConvTranspose2d(channels_in, channels_out, 4, stride=2, padding=1)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Returns [N, channels_out, 2H, 2W]."""
        return self.conv(F.relu(self.norm(x_NCHW)))


class DownBlock(nn.Module):
    """A convolution that halves the size, normalisation, and leaky ReLU."""

    def __init__(self, channels_in: int, channels_out: int, norm: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 4, stride=2, padding=1)
        self.norm = normalisation(norm, channels_out)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Returns [N, channels_out, H/2, W/2]."""
        return F.leaky_relu(self.norm(self.conv(x_NCHW)), SLOPE)


class DcganGenerator(nn.Module):
    """A linear layer to a coarse map, then transposed convolutions, then tanh."""

    def __init__(self, recipe: Gan) -> None:
        super().__init__()
        self.latent = recipe.latent
        self.start = Start(recipe)
        widths = [recipe.channels * multiple for multiple in reversed(recipe.multipliers)]
        self.coarse = (widths[0], recipe.base, recipe.base)
        self.first = nn.Linear(self.start.width, widths[0] * recipe.base**2)
        chain = pairwise([*widths, recipe.image_channels])
        self.blocks = nn.ModuleList(UpBlock(narrow, wide, recipe.norm) for narrow, wide in chain)

    def forward(self, z_NZ: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns images [N, C, H, W] in [−1, 1], float32."""
        x_NCHW = self.first(self.start(z_NZ, conditioning)).unflatten(1, self.coarse)
        for block in self.blocks:
            x_NCHW = block(x_NCHW)
        return x_NCHW.float().tanh()


class DcganDiscriminator(nn.Module):
    """Strided convolutions, then one linear layer over the whole coarse map. The first one is not normalised."""

    def __init__(self, recipe: Gan) -> None:
        super().__init__()
        widths = [recipe.channels * multiple for multiple in recipe.multipliers]
        norms = ["none", *[recipe.norm] * (len(widths) - 1)]
        chain = zip(pairwise([recipe.image_channels, *widths]), norms, strict=True)
        self.blocks = nn.ModuleList(DownBlock(narrow, wide, norm) for (narrow, wide), norm in chain)
        self.head = Head(recipe, widths[-1] * recipe.base**2)

    def forward(self, x_NCHW: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns [N], float32."""
        for block in self.blocks:
            x_NCHW = block(x_NCHW)
        return self.head(x_NCHW.flatten(1), conditioning)
