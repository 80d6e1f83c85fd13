"""A denoiser network and the encoder of its captions, as one module."""

from collections.abc import Sequence

from torch import Tensor, nn

from pipelines.models.text import Caption, Context, TextEncoder
from pipelines.models.unet import UNet
from pipelines.recipe.model import UNet as UNetRecipe


class TextToImage(nn.Module):
    """A U-Net conditioned on captions through a Transformer encoder."""

    def __init__(self, recipe: UNetRecipe) -> None:
        super().__init__()
        self.text = TextEncoder(recipe.text)
        self.unet = UNet(recipe)

    def encode(self, tokens_NL: Tensor, mask_NL: Tensor) -> Context:
        """Captions as the U-Net sees them; encode once, denoise many times."""
        return self.text(tokens_NL, mask_NL)

    def forward(
        self,
        x_NCHW: Tensor,
        c_noise_N: Tensor,
        caption: Caption | Context,
        residuals: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """The network F of a denoiser: [N, C, H, W]. A `Caption` is encoded first, inside this one call."""
        context = caption if isinstance(caption, Context) else self.encode(*caption)
        return self.unet(x_NCHW, c_noise_N, context, residuals)
