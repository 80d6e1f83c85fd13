"""The `model` and `objective` sections of autoencoders, and of priors over their codes."""

import math
from typing import Annotated, Literal

from pydantic import Discriminator, Field, PositiveInt, Tag, model_validator

from headrace.recipe.section import Section, tag_of
from headrace.recipe.text import Text, check_heads


class KL(Section):
    """A Gaussian latent, pulled towards the standard normal (Kingma & Welling 2014)."""

    kind: Literal["kl"]
    """the kind of bottleneck"""
    channels: int = Field(4, ge=1)
    """channels of a latent"""


class VQ(Section):
    """Vector quantisation (van den Oord et al. 2017)."""

    kind: Literal["vq"]
    """the kind of bottleneck"""
    channels: int = Field(8, ge=1)
    """channels of a code"""
    codes: int = Field(512, ge=2)
    """size of the codebook"""
    update: Literal["ema", "gradient"] = "ema"
    """how codes are updated: moving averages of the encoder's output, or the optimizer"""
    decay: float = Field(0.99, ge=0, lt=1)
    """decay of the moving averages, per step"""
    cosine: bool = False
    """whether distances to codes are measured on the unit sphere"""
    revive: float = Field(0.05, ge=0, lt=1)
    """a code used less than this share of the mean use is replaced; 0 to replace none"""


class FSQ(Section):
    """Finite scalar quantisation (Mentzer et al. 2023)."""

    kind: Literal["fsq"]
    """the kind of bottleneck"""
    levels: tuple[Annotated[int, Field(ge=2)], ...] = Field((8, 8, 8), min_length=1)
    """number of values of each channel; their product is the size of the codebook"""

    @property
    def codes(self) -> int:
        """The size of the codebook."""
        return math.prod(self.levels)


Bottleneck = Annotated[
    Annotated[KL, Tag("[kl]")] | Annotated[VQ, Tag("[vq]")] | Annotated[FSQ, Tag("[fsq]")],
    Discriminator(tag_of("kind", "kl")),
]


class Autoencoder(Section):
    """A convolutional encoder and decoder, with a bottleneck between them."""

    network: Literal["autoencoder"]
    """the kind of network"""
    resolution: int = Field(32, ge=4)
    """side of the square images, in pixels"""
    image_channels: int = Field(3, ge=1)
    """channels of an image"""
    patch: int = Field(2, ge=1)
    """pixels unshuffled into channels on each side"""
    channels: int = Field(32, ge=8)
    """channels at full resolution"""
    multipliers: tuple[PositiveInt, ...] = Field((1, 2), min_length=1)
    """channels of each level, as multiples of `channels`"""
    blocks: int = Field(1, ge=1)
    """residual blocks at each level"""
    bottleneck: Bottleneck
    """kl, vq or fsq"""

    @property
    def stride(self) -> int:
        """Pixels of an image along one pixel of its latent."""
        return self.patch * 2 ** (len(self.multipliers) - 1)

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return len(self.bottleneck.levels) if isinstance(self.bottleneck, FSQ) else self.bottleneck.channels

    @model_validator(mode="after")
    def _check_sizes(self) -> "Autoencoder":
        if self.resolution % self.stride:
            raise ValueError(f"a resolution divisible by {self.stride}, patch · 2^(levels − 1)")
        return self


class Perceptual(Section):
    """A distance of features of a frozen network (Zhang et al. 2018)."""

    run: str | None = None
    """the run folder of a classifier"""
    vgg: str | None = None
    """a safetensors file of the convolutions of VGG16, with torchvision's names"""
    weight: float = Field(1.0, gt=0)
    """its weight in the loss"""

    @model_validator(mode="after")
    def _check_one_network(self) -> "Perceptual":
        if (self.run is None) == (self.vgg is None):
            raise ValueError("either run or vgg")
        return self


class PatchDiscriminator(Section):
    """A discriminator of patches, and its role in training."""

    start: int = Field(0, ge=0)
    """steps before it starts"""
    weight: float = Field(0.8, gt=0)
    """weight of the adversarial loss, which multiplies the adaptive weight"""
    largest: float = Field(1e4, gt=0)
    """upper bound of the adaptive weight"""
    channels: int = Field(32, ge=8)
    """channels of its first layer"""
    layers: int = Field(2, ge=1)
    """halvings of the image"""


class Autoencoding(Section):
    """Reconstruction through a bottleneck."""

    family: Literal["autoencoder"]
    """the family of objectives"""
    reconstruction: Literal["l1", "l2"] = "l1"
    """the distance of pixels"""
    kl: float = Field(1e-6, ge=0)
    """weight of the divergence from the standard normal, per value of an image"""
    commitment: float = Field(0.25, ge=0)
    """weight of the commitment loss, which keeps the encoder's output near the codes"""
    perceptual: Perceptual | None = None
    """the perceptual loss; null for none"""
    discriminator: PatchDiscriminator | None = None
    """the adversarial loss; null for none"""
    monitor_every: int = Field(100, ge=1)
    """steps between two measurements of the fixed images"""
    monitored: int = Field(64, ge=1)
    """number of fixed images, the first of the dataset, whose error and codes are logged"""


class Prior(Section):
    """An autoregressive model of the codes of an image."""

    network: Literal["prior"]
    """the kind of network"""
    core: Literal["transformer", "lstm", "gru"] = "transformer"
    """the sequence model"""
    codes: int = Field(512, ge=2)
    """size of the autoencoder's codebook"""
    side: int = Field(8, ge=1)
    """codes along each side of an image"""
    width: int = Field(128, ge=8)
    """channels of a position"""
    layers: int = Field(4, ge=1)
    """blocks, or recurrent layers"""
    heads: int = Field(4, ge=1)
    """attention heads"""
    positions: Literal["learned", "sinusoidal", "rotary"] = "learned"
    """position encoding of a Transformer"""
    norm: Literal["pre", "post"] = "pre"
    """where a Transformer normalises: before each sublayer, or after its residual sum"""
    condition: Literal["prefix", "cross"] = "prefix"
    """whether the conditioning stands before the codes as a prefix, or is read by cross-attention"""
    text: Text | None = None
    """the caption encoder, of which a prefix uses only vocabulary and length; null for no captions"""
    labels: int | None = Field(None, ge=1)
    """number of classes; null for no labels"""

    @property
    def context_width(self) -> int:
        """Channels of a token that cross-attention reads."""
        return self.text.width if self.text else self.width

    @model_validator(mode="after")
    def _check_fit(self) -> "Prior":
        if self.core == "transformer":
            check_heads("channels of a position", self.width, self.heads)
        elif self.condition == "cross":
            raise ValueError(f"condition: prefix for {self.core}, which has no attention")
        if self.condition == "cross" and self.text is None and self.labels is None:
            raise ValueError("text or labels where condition is cross")
        if self.positions == "rotary" and self.width // self.heads % 2:
            raise ValueError("an even number of channels a head for rotary positions")
        return self


class AutoregressivePrior(Section):
    """The likelihood of codes, given the conditioning."""

    family: Literal["prior"]
    """the family of objectives"""
    autoencoder: str
    """the run folder of the autoencoder whose codes are modelled"""
    drop: float = Field(0.1, ge=0, le=1)
    """share of samples trained on without their caption or label"""
