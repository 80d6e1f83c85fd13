"""PatchGAN: a discriminator that classifies patches (Isola et al. 2017, section 3.2.2)."""

import torch.nn.functional as F
from torch import Tensor, nn

from headrace.models.blocks import group_norm
from headrace.recipe.discrete import PatchDiscriminator as PatchDiscriminatorRecipe


class PatchLayer(nn.Module):
    """A convolution, normalised unless it is the first, and leaky ReLU.

    It uses group rather than batch normalisation, so real and generated images do not mix and ranks need no
    synchronisation.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int, normalised: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels_out, 4 if stride == 2 else 3, stride, padding=1)
        self.norm = group_norm(channels_out) if normalised else nn.Identity()

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Returns [N, channels_out, H / stride, W / stride]."""
        return F.leaky_relu(self.norm(self.conv(x_NCHW)), 0.2)


class PatchDiscriminator(nn.Module):
    """One logit per patch, high for real patches."""

    def __init__(self, recipe: PatchDiscriminatorRecipe, image_channels: int) -> None:
        super().__init__()
        widths = [recipe.channels * min(2**layer, 8) for layer in range(recipe.layers)]
        self.layers = nn.ModuleList()
        channels = image_channels
        for layer, width in enumerate(widths):
            self.layers.append(PatchLayer(channels, width, stride=2, normalised=layer > 0))
            channels = width
        self.layers.append(PatchLayer(channels, channels, stride=1, normalised=True))
        self.out = nn.Conv2d(channels, 1, 3, padding=1)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        """Logits [N, 1, H / 2^layers, W / 2^layers]."""
        h_NCHW = image_NCHW
        for layer in self.layers:
            h_NCHW = layer(h_NCHW)
        return self.out(h_NCHW)
