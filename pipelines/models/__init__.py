"""Networks, and the seam that makes a denoiser of any of them."""

from typing import overload

import torch

from pipelines.models.controlnet import Control, Controlled, ControlNet
from pipelines.models.denoiser import Denoiser, denoiser
from pipelines.models.dit import DiT
from pipelines.models.text import Caption, Context
from pipelines.models.text_to_image import TextToImage
from pipelines.models.tokens import CaptionTokenizer
from pipelines.recipe.model import DiT as DiTRecipe
from pipelines.recipe.model import UNet as UNetRecipe


@overload
def build(recipe: UNetRecipe) -> TextToImage: ...
@overload
def build(recipe: DiTRecipe) -> DiT: ...
@overload
def build(recipe: UNetRecipe | DiTRecipe) -> TextToImage | DiT: ...
def build(recipe: UNetRecipe | DiTRecipe) -> TextToImage | DiT:
    """The network that the `model` section describes, its weights fresh from torch's generator and channels last."""
    network = TextToImage(recipe) if isinstance(recipe, UNetRecipe) else DiT(recipe)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


__all__ = [
    "Caption",
    "CaptionTokenizer",
    "Context",
    "Control",
    "ControlNet",
    "Controlled",
    "Denoiser",
    "DiT",
    "TextToImage",
    "build",
    "denoiser",
]
