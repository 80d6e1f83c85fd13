"""The U-Net denoiser of images (Ronneberger et al. 2015; Ho et al. 2020, appendix B).

`TextToImage` is the whole network: it encodes captions or labels and runs the `UNet`. `UNetEncoder` is the half of the
U-Net that a ControlNet copies.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.models.blocks import (
    POSITION_FEATURES,
    Canvas,
    MapAttention,
    NoiseEmbedding,
    UNetBlock,
    group_norm,
    loud,
    positions,
    zero,
)
from headrace.models.conditions import Conditioned, Conditioning
from headrace.models.text import Caption, Context
from headrace.recipe.model import UNet as UNetRecipe


class TextToImage(Conditioned):
    """A U-Net conditioned on captions or labels by cross-attention and by its embedding."""

    def __init__(self, recipe: UNetRecipe) -> None:
        super().__init__(recipe)
        self.unet = UNet(recipe)

    def forward(
        self,
        x_NCHW: Tensor,
        c_noise_N: Tensor,
        conditioning: Conditioning | Caption | Context,
        residuals: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """The network F of a denoiser: [N, C, H, W]. Conditioning that is not yet a `Context` is encoded first."""
        context = conditioning if isinstance(conditioning, Context) else self.encode(conditioning)
        return self.unet(x_NCHW, c_noise_N, context, residuals)


class UNet(nn.Module):
    """A network F(x, c_noise, context). Its output has the shape of x and is zero before training.

    Images are unshuffled into patches (Shi et al. 2016, reversed), so height and width must be multiples of
    patch · 2^(levels − 1).
    """

    def __init__(self, recipe: UNetRecipe) -> None:
        super().__init__()
        self.stride = recipe.patch * 2 ** (len(recipe.multipliers) - 1)
        self.patch = recipe.patch
        self.encoder = UNetEncoder(recipe)
        self.up = nn.ModuleList()
        widths = [recipe.channels * multiplier for multiplier in recipe.multipliers]
        channels = widths[-1]
        skip_widths = list(self.encoder.skip_widths)
        for level in reversed(range(len(widths))):
            for block in range(recipe.blocks):
                resample = "up" if level + 1 < len(widths) and not block else None
                self.up.append(make_block(recipe, level, channels + skip_widths.pop(), widths[level], resample))
                channels = widths[level]
        self.norm_out = group_norm(channels)
        self.conv_out = zero(nn.Conv2d(channels, recipe.image_channels * recipe.patch**2, 3, padding=1))

    def forward(
        self, x_NCHW: Tensor, c_noise_N: Tensor, context: Context, residuals: Sequence[Tensor] | None = None
    ) -> Tensor:
        """Returns [N, C, H, W]. `residuals` (a ControlNet's) are added to each skip, in order, and to the middle."""
        if x_NCHW.shape[-1] % self.stride or x_NCHW.shape[-2] % self.stride:
            raise ValueError(f"image: found {list(x_NCHW.shape[-2:])} pixels, expected multiples of {self.stride}")
        embedding_NE = self.encoder.embed(c_noise_N, context)
        h_NCHW = self.encoder.first(x_NCHW)
        skips, h_NCHW = self.encoder(h_NCHW, embedding_NE, context)
        if residuals is not None:
            *for_skips, for_middle = residuals
            skips = [skip + residual for skip, residual in zip(skips, for_skips, strict=True)]
            h_NCHW = h_NCHW + for_middle
        for block in self.up:
            h_NCHW = block(h_NCHW, embedding_NE, context, skips.pop())
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h_NCHW))), self.patch)


class UNetEncoder(nn.Module):
    """The contracting half of a U-Net and its middle, which a ControlNet copies."""

    def __init__(self, recipe: UNetRecipe) -> None:
        super().__init__()
        widths = [recipe.channels * multiplier for multiplier in recipe.multipliers]
        self.patch = recipe.patch
        self.embedding_width = 4 * recipe.channels
        self.noise = NoiseEmbedding(self.embedding_width)
        self.pooled = loud(nn.Linear(recipe.context_width, self.embedding_width))
        self.conv_in = nn.Conv2d(recipe.image_channels * recipe.patch**2 + POSITION_FEATURES, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        self.skip_widths: list[int] = []
        channels = widths[0]
        for level, width in enumerate(widths):
            for block in range(recipe.blocks):
                resample = "down" if level and not block else None
                self.down.append(make_block(recipe, level, channels, width, resample))
                channels = width
                self.skip_widths.append(width)
        self.middle = nn.ModuleList([make_block(recipe, len(widths) - 1, channels, channels, None)])
        self.canvas = Canvas(self.embedding_width, channels)

    def embed(self, c_noise_N: Tensor, context: Context) -> Tensor:
        """The embedding of noise level and conditioning, which scales and shifts every block: [N, E]."""
        return F.silu(self.noise(c_noise_N) + self.pooled(context.pooled_ND))

    def first(self, x_NCHW: Tensor) -> Tensor:
        """The first feature map, from the image's patches and their positions: [N, C, H / patch, W / patch]."""
        x_NCHW = F.pixel_unshuffle(x_NCHW, self.patch)
        where_NCHW = positions(x_NCHW).expand(len(x_NCHW), -1, -1, -1)
        return self.conv_in(torch.cat([x_NCHW, where_NCHW], 1))

    def forward(self, h_NCHW: Tensor, embedding_NE: Tensor, context: Context) -> tuple[list[Tensor], Tensor]:
        """Takes the first feature map. Returns the output of each block, and the output of the middle."""
        skips = []
        for block in self.down:
            h_NCHW = block(h_NCHW, embedding_NE, context)
            skips.append(h_NCHW)
        for block in self.middle:
            h_NCHW = block(h_NCHW, embedding_NE, context)
        return skips, h_NCHW + self.canvas(embedding_NE, *h_NCHW.shape[-2:])


def make_block(recipe: UNetRecipe, level: int, channels_in: int, channels_out: int, resample: str | None) -> UNetBlock:
    """The block of a level, with attention where the recipe says so."""
    attention = None
    if level in recipe.attention:
        attention = MapAttention(channels_out, recipe.heads, recipe.context_width)
    return UNetBlock(
        channels_in,
        channels_out,
        4 * recipe.channels,
        resample=resample,  # type: ignore[arg-type]
        attention=attention,
        dropout=recipe.dropout,
    )
