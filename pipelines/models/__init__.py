"""Networks, and the seam that makes a denoiser of any of them."""

from pipelines.models.denoiser import Denoiser, denoiser
from pipelines.models.text import Caption, Context
from pipelines.models.text_to_image import TextToImage
from pipelines.models.tokens import CaptionTokenizer
from pipelines.recipe.model import UNet


def build(recipe: UNet) -> TextToImage:
    """The network that the `model` section describes, with fresh weights from torch's generator."""
    return TextToImage(recipe)


__all__ = ["Caption", "CaptionTokenizer", "Context", "Denoiser", "TextToImage", "build", "denoiser"]
