"""A classifier of noisy images (Dhariwal & Nichol 2021, section 4).

Its features of clean images serve to evaluate samples.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.models.attention import Attention
from headrace.models.blocks import POSITION_FEATURES, MapAttention, NoiseEmbedding, UNetBlock, group_norm, positions
from headrace.recipe.classifier import Classifier as ClassifierRecipe


class AttentionPool(nn.Module):
    """Attention pooling: the query is the mean of a feature map (Radford et al. 2021, section 2.4)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.norm = group_norm(channels)
        self.attend = Attention(channels, heads, channels)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Returns [N, C]."""
        x_NLC = self.norm(x_NCHW).flatten(2).transpose(1, 2)
        mean_N1C = x_NLC.mean(1, keepdim=True)
        return (mean_N1C + self.attend(mean_N1C, x_NLC))[:, 0]


class Classifier(nn.Module):
    """log p(y | x, σ) of images x = x₀ + σ·n, for every noise level σ ≥ 0. Logits are zero before training."""

    def __init__(self, recipe: ClassifierRecipe) -> None:
        super().__init__()
        self.labels = recipe.labels
        self.image_shape = (recipe.image_channels, recipe.resolution, recipe.resolution)
        """channels, height and width of an image"""
        self.patch = recipe.patch
        self.stride = recipe.patch * 2 ** (len(recipe.multipliers) - 1)
        embedding = 4 * recipe.channels
        widths = [recipe.channels * multiplier for multiplier in recipe.multipliers]
        self.noise = NoiseEmbedding(embedding)
        self.conv_in = nn.Conv2d(recipe.image_channels * recipe.patch**2 + POSITION_FEATURES, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        channels = widths[0]
        for level, width in enumerate(widths):
            for block in range(recipe.blocks):
                attention = MapAttention(width, recipe.heads) if level in recipe.attention else None
                resample = "down" if level and not block else None
                self.blocks.append(
                    UNetBlock(
                        channels,
                        width,
                        embedding,
                        resample=resample,  # type: ignore[arg-type]
                        attention=attention,
                        dropout=recipe.dropout,
                    )
                )
                channels = width
        self.pool = AttentionPool(channels, recipe.heads)
        self.norm_out = nn.LayerNorm(channels)
        self.out = nn.Linear(channels, recipe.labels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def width(self) -> int:
        """The number of features of an image, D."""
        return self.out.in_features

    def features(self, x_NCHW: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """The input of the last layer: [N, D].

        `x` is an image in [−1, 1] plus noise of standard deviation `sigma` (one number, or [N]).

        Raises ValueError if the image's height or width is not a multiple of the stride.
        """
        if x_NCHW.shape[-1] % self.stride or x_NCHW.shape[-2] % self.stride:
            raise ValueError(f"image: found {list(x_NCHW.shape[-2:])} pixels, expected multiples of {self.stride}")
        sigma_N = torch.as_tensor(sigma, device=x_NCHW.device).expand(len(x_NCHW))
        # With tan φ = σ, cos φ·x is the variance-preserving state. The network's input is φ, in thousandths of π/2.
        phi_N = sigma_N.double().arctan()
        x_NCHW = phi_N.cos().to(x_NCHW.dtype)[:, None, None, None] * x_NCHW
        embedding_NE = F.silu(self.noise((phi_N * (2000 / math.pi)).to(x_NCHW.dtype)))
        x_NCHW = F.pixel_unshuffle(x_NCHW, self.patch)
        h_NCHW = self.conv_in(torch.cat([x_NCHW, positions(x_NCHW).expand(len(x_NCHW), -1, -1, -1)], 1))
        for block in self.blocks:
            h_NCHW = block(h_NCHW, embedding_NE)
        return self.norm_out(self.pool(h_NCHW))

    def logits(self, features_ND: Tensor) -> Tensor:
        """The logits [N, K] of `features`."""
        return self.out(features_ND)

    def forward(self, x_NCHW: Tensor, sigma: Tensor | float = 0.0) -> Tensor:
        """The logits of each label, [N, K]. The arguments are those of `features`."""
        return self.logits(self.features(x_NCHW, sigma))
