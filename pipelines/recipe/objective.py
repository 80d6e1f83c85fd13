"""The `objective` section: what is minimised. Each family has a class."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from headrace.recipe.classifier import Classification
from headrace.recipe.control import Control
from headrace.recipe.discrete import Autoencoding, AutoregressivePrior
from headrace.recipe.gan import Adversarial
from headrace.recipe.section import Section, tag_of


class Diffusion(Section):
    """Denoising diffusion with classifier-free guidance."""

    family: Literal["diffusion"] = "diffusion"
    """the family of objectives"""
    prediction: str = "v"
    """what the network predicts: epsilon, v, x0, score or edm"""
    schedule: Literal["linear", "cosine", "geometric", "lognormal"] = "cosine"
    """the noise schedule of training"""
    min_snr: float | None = Field(5.0, gt=0)
    """γ of min-SNR weighting; null for none"""
    drop_caption: float = Field(0.1, ge=0, le=1)
    """share of samples trained on without their caption and label"""


Objective = Annotated[
    Annotated[Diffusion, Tag("[diffusion]")]
    | Annotated[Classification, Tag("[classifier]")]
    | Annotated[Control, Tag("[control]")]
    | Annotated[Adversarial, Tag("[gan]")]
    | Annotated[Autoencoding, Tag("[autoencoder]")]
    | Annotated[AutoregressivePrior, Tag("[prior]")],
    Discriminator(tag_of("family", "diffusion")),
]
"""An `objective` section; `family` selects its kind."""
