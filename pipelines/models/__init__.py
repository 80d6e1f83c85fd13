"""Networks, and the interface that turns any of them into a denoiser."""

from typing import Any, overload

import torch
from torch import nn

from headrace.models.autoencoder import Autoencoder
from headrace.models.classifier import Classifier
from headrace.models.conditions import Conditioning
from headrace.models.controlnet import Control, Controlled, ControlNet
from headrace.models.denoiser import Denoiser, denoiser
from headrace.models.dit import DiT
from headrace.models.prior import Prior
from headrace.models.text import Caption, Context
from headrace.models.tokens import CaptionTokenizer
from headrace.models.unet import TextToImage
from headrace.recipe.classifier import Classifier as ClassifierRecipe
from headrace.recipe.discrete import Autoencoder as AutoencoderRecipe
from headrace.recipe.discrete import Prior as PriorRecipe
from headrace.recipe.model import DiT as DiTRecipe
from headrace.recipe.model import UNet as UNetRecipe

NETWORKS: dict[type, type[nn.Module]] = {
    UNetRecipe: TextToImage,
    DiTRecipe: DiT,
    ClassifierRecipe: Classifier,
    AutoencoderRecipe: Autoencoder,
    PriorRecipe: Prior,
}
"""the network for each kind of `model` section that describes a single network"""


@overload
def build(recipe: UNetRecipe) -> TextToImage: ...
@overload
def build(recipe: DiTRecipe) -> DiT: ...
@overload
def build(recipe: ClassifierRecipe) -> Classifier: ...
@overload
def build(recipe: AutoencoderRecipe) -> Autoencoder: ...
@overload
def build(recipe: PriorRecipe) -> Prior: ...
@overload
def build(recipe: Any) -> Any: ...
def build(recipe: Any) -> Any:
    """The network that the `model` section describes, in channels_last, initialised from torch's generator."""
    return NETWORKS[type(recipe)](recipe).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


__all__ = [
    "NETWORKS",
    "Autoencoder",
    "Caption",
    "CaptionTokenizer",
    "Classifier",
    "Conditioning",
    "Context",
    "Control",
    "ControlNet",
    "Controlled",
    "Denoiser",
    "DiT",
    "Prior",
    "TextToImage",
    "build",
    "denoiser",
]
