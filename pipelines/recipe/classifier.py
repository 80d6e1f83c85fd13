"""The `model` and `objective` sections of a classifier of noisy images."""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from headrace.recipe.levels import check_levels
from headrace.recipe.section import Section


class Classifier(Section):
    """A classifier of noisy images: the downsampling half of a U-Net, then attention pooling."""

    network: Literal["classifier"]
    """the kind of network"""
    labels: int = Field(ge=2)
    """number of classes; labels count from 0"""
    resolution: int = Field(32, ge=4)
    """side of the square images, in pixels"""
    image_channels: int = Field(3, ge=1)
    """channels of an image"""
    patch: int = Field(1, ge=1)
    """pixels unshuffled into channels on each side"""
    channels: int = Field(64, ge=8)
    """channels at full resolution"""
    multipliers: tuple[PositiveInt, ...] = Field((1, 2, 2), min_length=1)
    """channels of each level, as multiples of `channels`"""
    blocks: int = Field(1, ge=1)
    """residual blocks at each level"""
    attention: tuple[int, ...] = ()
    """levels, from 0, that have self-attention"""
    heads: int = Field(4, ge=1)
    """attention heads"""
    dropout: float = Field(0.0, ge=0, lt=1)
    """dropout rate in residual blocks"""

    @model_validator(mode="after")
    def _check_sizes(self) -> "Classifier":
        widths = [self.channels * multiplier for multiplier in self.multipliers]
        check_levels(
            self.resolution, self.patch, widths, self.attention, [*self.attention, len(widths) - 1], self.heads
        )
        return self


class Classification(Section):
    """Cross-entropy of the labels of images at all noise levels."""

    family: Literal["classifier"]
    """the family of objectives"""
    schedule: Literal["linear", "cosine", "geometric", "lognormal"] = "cosine"
    """the noise schedule of training"""
    clean: float = Field(0.25, ge=0, le=1)
    """share of samples trained on without noise"""
