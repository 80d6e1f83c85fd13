"""Networks, and the seam that makes a denoiser of any of them."""

from typing import Any, overload

import torch
from torch import nn

from pipelines.models.autoencoder import Autoencoder
from pipelines.models.classifier import Classifier
from pipelines.models.conditions import Told
from pipelines.models.controlnet import Control, Controlled, ControlNet
from pipelines.models.denoiser import Denoiser, denoiser
from pipelines.models.dit import DiT
from pipelines.models.prior import Prior
from pipelines.models.text import Caption, Context
from pipelines.models.text_to_image import TextToImage
from pipelines.models.tokens import CaptionTokenizer
from pipelines.recipe.classifier import Classifier as ClassifierRecipe
from pipelines.recipe.discrete import Autoencoder as AutoencoderRecipe
from pipelines.recipe.discrete import Prior as PriorRecipe
from pipelines.recipe.model import DiT as DiTRecipe
from pipelines.recipe.model import UNet as UNetRecipe

NETWORKS: dict[type, type[nn.Module]] = {
    UNetRecipe: TextToImage,
    DiTRecipe: DiT,
    ClassifierRecipe: Classifier,
    AutoencoderRecipe: Autoencoder,
    PriorRecipe: Prior,
}
"""the network of each kind of `model` section that describes one network whole"""


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
    """The network that the `model` section describes, its weights fresh from torch's generator and channels last."""
    return NETWORKS[type(recipe)](recipe).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


__all__ = [
    "NETWORKS",
    "Autoencoder",
    "Caption",
    "CaptionTokenizer",
    "Classifier",
    "Context",
    "Control",
    "ControlNet",
    "Controlled",
    "Denoiser",
    "DiT",
    "Prior",
    "TextToImage",
    "Told",
    "build",
    "denoiser",
]
