"""The `model` and `objective` sections of a GAN."""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from headrace.recipe.section import Section
from headrace.recipe.text import Text


class Gan(Section):
    """A generator and a discriminator of images, unconditional or conditioned on a label or a caption."""

    network: Literal["gan"]
    """the kind of network"""
    backbone: Literal["dcgan", "residual"] = "dcgan"
    """strided convolutions, or residual blocks between resamplings"""
    resolution: int = Field(32, ge=8)
    """side of the square images, in pixels"""
    image_channels: int = Field(3, ge=1)
    """channels of an image"""
    patch: int = Field(1, ge=1)
    """pixels unshuffled into channels on each side, with residual; 1 with dcgan"""
    latent: int = Field(64, ge=1)
    """length of z, the normal vector that the generator maps to an image"""
    channels: int = Field(32, ge=8)
    """channels at the finest level"""
    multipliers: tuple[PositiveInt, ...] = Field((1, 2, 4), min_length=1)
    """channels of each level from the finest, as multiples of `channels`"""
    blocks: int = Field(1, ge=1)
    """residual blocks at each level; 1 with dcgan"""
    norm: Literal["none", "group", "batch"] = "none"
    """normalisation between dcgan's convolutions; with batch, samples of a batch depend on each other"""
    condition: Literal["none", "label", "caption"] = "none"
    """what the networks are conditioned on"""
    classes: int = Field(10, ge=1)
    """number of classes, with condition: label"""
    text: Text = Text()
    """the caption encoder of each network, with condition: caption"""

    @property
    def base(self) -> int:
        """Side of the coarsest feature map: dcgan halves at every level, residual networks between levels."""
        return self.resolution // self._stride

    @property
    def _stride(self) -> int:
        return self.patch * 2 ** (len(self.multipliers) - (self.backbone == "residual"))

    @model_validator(mode="after")
    def _check_fit(self) -> "Gan":
        if self.resolution % self._stride or self.base < 2:
            raise ValueError(f"a resolution that is a multiple of {self._stride} and at least {2 * self._stride}")
        if self.backbone == "residual" and self.norm != "none":
            raise ValueError(f"norm: none with backbone: residual, not {self.norm}")
        for key in ("blocks", "patch"):
            if self.backbone == "dcgan" and getattr(self, key) != 1:
                raise ValueError(f"{key}: 1 with backbone: dcgan, not {getattr(self, key)}")
        return self


class Adversarial(Section):
    """A generator against a discriminator (or critic)."""

    family: Literal["gan"]
    """the family of objectives"""
    loss: Literal["minimax", "non_saturating", "relativistic", "wasserstein"] = "non_saturating"
    """the adversarial loss"""
    regulariser: Literal["none", "clip", "gradient_penalty", "spectral", "r1_r2"] = "none"
    """the regulariser of the discriminator"""
    rounds: int = Field(1, ge=1)
    """steps of the discriminator for each step of the generator"""
    clip: float = Field(0.01, gt=0)
    """largest weight, with regulariser: clip"""
    penalty: float = Field(10.0, gt=0)
    """λ of the gradient penalty"""
    gamma: float = Field(1.0, gt=0)
    """γ of R1 and R2"""
    gamma_final: float | None = Field(None, gt=0)
    """γ after the burn-in, reached along half a cosine; null for `gamma` throughout"""
    burn_in: int = Field(0, ge=0)
    """samples until γ reaches `gamma_final`"""

    @model_validator(mode="after")
    def _check_fit(self) -> "Adversarial":
        if self.gamma_final is not None and not self.burn_in:
            raise ValueError("a burn_in of at least 1 sample with gamma_final")
        return self
