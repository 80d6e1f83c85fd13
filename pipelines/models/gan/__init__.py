"""Generators and discriminators."""

from typing import NamedTuple

import torch
from torch import nn

from headrace.models.gan.dcgan import DcganDiscriminator, DcganGenerator
from headrace.models.gan.residual import ResidualDiscriminator, ResidualGenerator
from headrace.models.gan.spectral import normalise_spectra, step_spectra
from headrace.recipe.gan import Gan


class Pair(NamedTuple):
    """The two networks of a GAN."""

    generator: nn.Module
    """(z [N, Z], conditioning) -> image [N, C, H, W], roughly in [−1, 1]"""
    discriminator: nn.Module
    """(image [N, C, H, W], conditioning) -> logit or critic score [N]"""


def build_pair(recipe: Gan) -> Pair:
    """The networks that the `model` section describes, in channels_last, initialised from torch's generator."""
    pair: tuple[nn.Module, nn.Module] = (
        (DcganGenerator(recipe), DcganDiscriminator(recipe))
        if recipe.backbone == "dcgan"
        else (ResidualGenerator(recipe), ResidualDiscriminator(recipe))
    )
    return Pair(*(network.to(memory_format=torch.channels_last) for network in pair))  # type: ignore[call-overload]


__all__ = ["Pair", "build_pair", "normalise_spectra", "step_spectra"]
