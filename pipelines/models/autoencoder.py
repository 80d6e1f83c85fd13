"""A convolutional autoencoder of images, and the latents that other models use.

Encoder and decoder consist of residual blocks and resampling by two (Esser et al. 2021; Rombach et al. 2022); the
bottleneck lies between them.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.draws import Draws
from headrace.models.blocks import group_norm, zero
from headrace.models.bottleneck import Grid, Normal, Through
from headrace.models.codebook import Codebook
from headrace.ranks import collectives as ranks
from headrace.recipe.discrete import FSQ, KL
from headrace.recipe.discrete import Autoencoder as AutoencoderRecipe


class ResidualBlock(nn.Module):
    """Resampling, then two convolutions with a shortcut around them (He et al. 2016), each after a normalisation."""

    def __init__(self, channels_in: int, channels_out: int, resample: Literal["down", "up"] | None = None) -> None:
        super().__init__()
        self.resample = resample
        self.norm_in = group_norm(channels_in)
        self.conv_in = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm_out = group_norm(channels_out)
        self.conv_out = zero(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Returns [N, channels_out, H', W']."""
        if self.resample == "down":
            x_NCHW = F.avg_pool2d(x_NCHW, 2)
        elif self.resample == "up":
            x_NCHW = F.interpolate(x_NCHW, scale_factor=2, mode="nearest")
        h_NCHW = self.conv_in(F.silu(self.norm_in(x_NCHW)))
        return self.skip(x_NCHW) + self.conv_out(F.silu(self.norm_out(h_NCHW)))


class Encoder(nn.Module):
    """From an image to the bottleneck's input."""

    def __init__(self, recipe: AutoencoderRecipe, width_out: int) -> None:
        super().__init__()
        widths = [recipe.channels * multiplier for multiplier in recipe.multipliers]
        self.patch = recipe.patch
        self.conv_in = nn.Conv2d(recipe.image_channels * recipe.patch**2, widths[0], 3, padding=1)
        self.down = nn.ModuleList()
        channels = widths[0]
        for level, width in enumerate(widths):
            for block in range(recipe.blocks):
                self.down.append(ResidualBlock(channels, width, "down" if level and not block else None))
                channels = width
        self.norm_out = group_norm(channels)
        self.conv_out = nn.Conv2d(channels, width_out, 1)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Returns [N, width_out, H / stride, W / stride]."""
        h_NCHW = self.conv_in(F.pixel_unshuffle(image_NCHW, self.patch))
        for block in self.down:
            h_NCHW = block(h_NCHW)
        return self.conv_out(F.silu(self.norm_out(h_NCHW)))


class Decoder(nn.Module):
    """From the bottleneck's output to an image.

    `features` and `paint` are separate, because the objective compares gradients at the last layer.
    """

    def __init__(self, recipe: AutoencoderRecipe, width_in: int) -> None:
        super().__init__()
        widths = [recipe.channels * multiplier for multiplier in recipe.multipliers]
        self.patch = recipe.patch
        self.conv_in = nn.Conv2d(width_in, widths[-1], 3, padding=1)
        self.up = nn.ModuleList()
        channels = widths[-1]
        for level in reversed(range(len(widths))):
            for block in range(recipe.blocks):
                up = level + 1 < len(widths) and not block
                self.up.append(ResidualBlock(channels, widths[level], "up" if up else None))
                channels = widths[level]
        self.norm_out = group_norm(channels)
        self.last = nn.Conv2d(channels, recipe.image_channels * recipe.patch**2, 3, padding=1)

    def features(self, z_NCHW: Tensor) -> Tensor:
        """The input of the last layer."""
        h_NCHW = self.conv_in(z_NCHW)
        for block in self.up:
            h_NCHW = block(h_NCHW)
        return F.silu(self.norm_out(h_NCHW))

    def paint(self, features_NCHW: Tensor) -> Tensor:
        """The image [N, C, H, W] of the last layer's input."""
        return F.pixel_shuffle(self.last(features_NCHW), self.patch)

    def forward(self, z_NCHW: Tensor) -> Tensor:
        """Returns [N, C, H, W]."""
        return self.paint(self.features(z_NCHW))


class Autoencoder(nn.Module):
    """Images in [−1, 1] to latents and back, for any height and width that the stride divides.

    `encode` normalises latents to mean 0 and variance 1 per channel, with moments averaged during training (Rombach et
    al. 2022, appendix G, use one scale for all channels).
    """

    latent_mean_C: Tensor
    latent_variance_C: Tensor
    updates: Tensor

    def __init__(self, recipe: AutoencoderRecipe) -> None:
        super().__init__()
        self.image_shape = (recipe.image_channels, recipe.resolution, recipe.resolution)
        """channels, height and width of an image in training"""
        self.stride = recipe.stride
        """how many image pixels one latent pixel spans, along each side"""
        self.bottleneck: Normal | Codebook | Grid
        if isinstance(recipe.bottleneck, KL):
            self.bottleneck = Normal(recipe.bottleneck)
        elif isinstance(recipe.bottleneck, FSQ):
            self.bottleneck = Grid(recipe.bottleneck)
        else:
            self.bottleneck = Codebook(recipe.bottleneck)
        self.latent_channels = self.bottleneck.width
        """channels of a latent"""
        self.encoder = Encoder(recipe, self.bottleneck.width_in)
        self.decoder = Decoder(recipe, self.bottleneck.width)
        self.register_buffer("latent_mean_C", torch.zeros(self.latent_channels))
        self.register_buffer("latent_variance_C", torch.ones(self.latent_channels))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self._moments_3C: Tensor | None = None

    @property
    def discrete(self) -> Codebook | Grid:
        """The bottleneck that quantises. Raises ValueError if there is none."""
        if isinstance(self.bottleneck, Normal):
            raise ValueError("bottleneck: found kl, expected vq or fsq, which have codes")
        return self.bottleneck

    def compress(self, image_NCHW: Tensor, draws: Draws) -> Through:
        """Encoder and bottleneck as used in training."""
        h_NCHW = self.encoder(image_NCHW)
        if self.training:
            self._note(self.bottleneck.latent(h_NCHW.detach()))
        return self.bottleneck(h_NCHW, draws)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """The reconstruction, without any randomness."""
        return self.decoder(self.bottleneck.settle(self._latent(image_NCHW)))

    def encode(self, image_NCHW: Tensor) -> Tensor:
        """The latent [N, latent_channels, H / stride, W / stride], not quantised, with mean 0 and variance 1."""
        mean_C11, deviation_C11 = self._scale()
        return (self._latent(image_NCHW) - mean_C11) / deviation_C11

    def decode(self, latent_NCHW: Tensor) -> Tensor:
        """The image [N, C, H, W] of a latent that `encode` returned."""
        mean_C11, deviation_C11 = self._scale()
        return self.decoder(self.bottleneck.settle(latent_NCHW.float() * deviation_C11 + mean_C11))

    def codes(self, image_NCHW: Tensor) -> Tensor:
        """The codes: int64 [N, H / stride, W / stride]. Raises ValueError if the bottleneck has none."""
        return self.discrete.codes(self._latent(image_NCHW))

    def decode_codes(self, codes_NHW: Tensor) -> Tensor:
        """The image [N, C, H, W] of codes. Raises ValueError if the bottleneck has none."""
        return self.decoder(self.discrete.embed(codes_NHW))

    @torch.no_grad()
    def update(self) -> None:
        """Update the bottleneck and the latents' moments. Call this after the optimizer's step."""
        self.bottleneck.update()
        if self._moments_3C is None:
            return
        (count_C, sum_C, square_C), self._moments_3C = ranks.total(self._moments_3C), None
        finite, mean_C = square_C.isfinite().all(), sum_C / count_C
        self.updates += finite
        step = 1 - (self.updates / (self.updates + 9)).clamp(max=0.99)
        for average_C, value_C in (
            (self.latent_mean_C, mean_C),
            (self.latent_variance_C, square_C / count_C - mean_C.square()),
        ):
            average_C.copy_(torch.where(finite, average_C.lerp(value_C, step), average_C))

    def _latent(self, image_NCHW: Tensor) -> Tensor:
        if image_NCHW.shape[-1] % self.stride or image_NCHW.shape[-2] % self.stride:
            found = f"found {list(image_NCHW.shape[-2:])} pixels"
            raise ValueError(f"image: {found}, expected multiples of {self.stride}")
        return self.bottleneck.latent(self.encoder(image_NCHW))

    def _scale(self) -> tuple[Tensor, Tensor]:
        deviation_C = self.latent_variance_C.clamp(min=1e-8).sqrt()
        return self.latent_mean_C[:, None, None], deviation_C[:, None, None]

    def _note(self, latent_NCHW: Tensor) -> None:
        count_C = torch.full_like(self.latent_mean_C, latent_NCHW[:, 0].numel())
        moments_3C = torch.stack([count_C, latent_NCHW.sum((0, 2, 3)), latent_NCHW.square().sum((0, 2, 3))])
        self._moments_3C = moments_3C if self._moments_3C is None else self._moments_3C + moments_3C
