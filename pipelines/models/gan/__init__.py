"""Generators and discriminators."""

from typing import NamedTuple

from torch import nn

from pipelines.models.gan.condition import Condition
from pipelines.models.gan.dcgan import DcganDiscriminator, DcganGenerator
from pipelines.models.gan.residual import ResidualDiscriminator, ResidualGenerator
from pipelines.models.gan.spectral import normalise_spectra, step_spectra
from pipelines.recipe.gan import Gan


class Pair(NamedTuple):
    """The two networks of a GAN."""

    generator: nn.Module
    """(z [N, Z], condition) -> image [N, C, H, W], about [−1, 1]"""
    discriminator: nn.Module
    """(image [N, C, H, W], condition) -> logit or criticism [N]"""


def build_pair(recipe: Gan) -> Pair:
    """The networks that the `model` section describes, their weights fresh from torch's generator."""
    if recipe.backbone == "dcgan":
        return Pair(DcganGenerator(recipe), DcganDiscriminator(recipe))
    return Pair(ResidualGenerator(recipe), ResidualDiscriminator(recipe))


__all__ = ["Condition", "Pair", "build_pair", "normalise_spectra", "step_spectra"]
