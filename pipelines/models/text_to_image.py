"""A denoiser network and the encoder of what it is told, as one module."""

from collections.abc import Sequence

from torch import Tensor

from pipelines.models.conditions import Conditioned, Told
from pipelines.models.text import Caption, Context
from pipelines.models.unet import UNet
from pipelines.recipe.model import UNet as UNetRecipe


class TextToImage(Conditioned):
    """A U-Net conditioned on captions or labels by cross-attention and by its embedding."""

    def __init__(self, recipe: UNetRecipe) -> None:
        super().__init__(recipe)
        self.unet = UNet(recipe)

    def forward(
        self,
        x_NCHW: Tensor,
        c_noise_N: Tensor,
        told: Told | Caption | Context,
        residuals: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """The network F of a denoiser: [N, C, H, W]. What is not a `Context` is encoded first, inside this one call."""
        context = told if isinstance(told, Context) else self.encode(told)
        return self.unet(x_NCHW, c_noise_N, context, residuals)
