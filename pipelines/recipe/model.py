"""The `model` section: the kind of network and its size."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from headrace.recipe.classifier import Classifier
from headrace.recipe.control import ControlNet
from headrace.recipe.discrete import Autoencoder, Prior
from headrace.recipe.gan import Gan
from headrace.recipe.levels import check_levels
from headrace.recipe.section import Section, tag_of
from headrace.recipe.text import Text, TextEncoding, check_heads


class UNet(Section):
    """A U-Net denoiser of images, conditioned on text by cross-attention."""

    network: Literal["unet"] = "unet"
    """the kind of network: unet or dit"""
    resolution: int = Field(32, ge=2)
    """side of the square images or latents, in pixels"""
    image_channels: int = Field(3, ge=1)
    """channels of an image, or of its latent"""
    patch: int = Field(2, ge=1)
    """pixels unshuffled into channels on each side"""
    channels: int = Field(96, ge=8)
    """channels at full resolution"""
    multipliers: tuple[PositiveInt, ...] = Field((1, 2), min_length=1)
    """channels of each level, as multiples of `channels`"""
    blocks: int = Field(2, ge=1)
    """residual blocks at each level"""
    attention: tuple[int, ...] = (1,)
    """levels, from 0, that have self- and cross-attention"""
    heads: int = Field(4, ge=1)
    """attention heads"""
    dropout: float = Field(0.0, ge=0, lt=1)
    """dropout rate in residual blocks"""
    text: TextEncoding | None = Text()
    """the caption encoder; null for no captions"""
    labels: int | None = Field(None, ge=1)
    """number of classes; null for no labels"""
    autoencoder: str | None = None
    """the run folder of an autoencoder, whose latents are denoised; null to denoise images"""

    @property
    def context_width(self) -> int:
        """Channels of a token of the conditioning."""
        return self.text.width if self.text else 4 * self.channels

    @model_validator(mode="after")
    def _check_sizes(self) -> "UNet":
        widths = [self.channels * multiplier for multiplier in self.multipliers]
        check_levels(self.resolution, self.patch, widths, self.attention, self.attention, self.heads)
        return self


class DiT(Section):
    """A Transformer denoiser of images in patches, conditioned on text."""

    network: Literal["dit"]
    """the kind of network: unet or dit"""
    resolution: int = Field(32, ge=2)
    """side of the square images or latents, in pixels"""
    image_channels: int = Field(3, ge=1)
    """channels of an image, or of its latent"""
    patch: int = Field(4, ge=1)
    """side of a patch, in pixels"""
    width: int = Field(256, ge=8)
    """channels of a patch"""
    layers: int = Field(6, ge=1)
    """Transformer blocks"""
    heads: int = Field(4, ge=1)
    """attention heads"""
    text: TextEncoding | None = Text()
    """the caption encoder; null for no captions"""
    labels: int | None = Field(None, ge=1)
    """number of classes; null for no labels"""
    autoencoder: str | None = None
    """the run folder of an autoencoder, whose latents are denoised; null to denoise images"""

    @property
    def context_width(self) -> int:
        """Channels of a token of the conditioning."""
        return self.text.width if self.text else self.width

    @model_validator(mode="after")
    def _check_sizes(self) -> "DiT":
        if self.resolution % self.patch:
            raise ValueError(f"a resolution divisible by the patch, {self.patch}")
        check_heads("width", self.width, self.heads)
        return self


Model = Annotated[
    Annotated[UNet, Tag("[unet]")]
    | Annotated[DiT, Tag("[dit]")]
    | Annotated[Classifier, Tag("[classifier]")]
    | Annotated[ControlNet, Tag("[controlnet]")]
    | Annotated[Gan, Tag("[gan]")]
    | Annotated[Autoencoder, Tag("[autoencoder]")]
    | Annotated[Prior, Tag("[prior]")],
    Discriminator(tag_of("network", "unet")),
]
"""A `model` section; `network` selects its kind."""
