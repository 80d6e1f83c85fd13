"""Autoencoders: they reconstruct images, and latent models are trained on what they encode."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headrace import models, objectives
from headrace.errors import RecipeError
from headrace.models import Autoencoder, Classifier
from headrace.models.patchgan import PatchDiscriminator
from headrace.models.perceptual import VGG, Perceptual
from headrace.models.pixels import from_uint8, to_uint8
from headrace.recipe import RunRecipe
from headrace.recipe.discrete import KL, Autoencoding
from headrace.recipe.discrete import Autoencoder as AutoencoderRecipe
from headrace.recipe.training import Sampling
from headrace.runs import data, frozen
from headrace.runs.run_folder import RunFolder
from headrace.systems import classifier
from headrace.systems.image_generator import SampleRequest
from headrace.systems.system import System, model_section


class AutoencoderSystem(System):
    """The run of an autoencoder."""

    def __init__(self, recipe: RunRecipe) -> None:
        super().__init__(recipe)
        self.model = model_section(recipe, AutoencoderRecipe, "autoencoder")
        assert isinstance(recipe.objective, Autoencoding)
        self.losses = recipe.objective

    def check(self) -> None:
        super().check()
        parallel = self.recipe.training.parallel
        if self.losses.discriminator is not None and parallel != "ddp":
            expected = "expected ddp: the adaptive weight differentiates inside of a loss, after weights are resharded"
            raise RecipeError(f"training.parallel: found {parallel!r}, {expected}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.model.image_channels, self.model.resolution, self.model.resolution

    def objective(self, folder: RunFolder, device: torch.device) -> objectives.Objective:
        """Raises RecipeError if the codebook is larger than the data, or `perceptual` takes other images."""
        self._check_codes()
        model = models.build(self.model).to(device)
        discriminator = None
        if self.losses.discriminator is not None:
            discriminator = PatchDiscriminator(self.losses.discriminator, self.model.image_channels)
            discriminator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        section = self.recipe.data
        raw = next(iter(data.examples(section, self.image_shape, self.losses.monitored)))
        return objectives.Reconstruction(
            self.losses,
            model,
            perceptual=self._perceptual(folder, device),
            discriminator=discriminator,
            fixed_NCHW=from_uint8(raw[section.image].to(device)),
        )

    def image_generator(self, folder: RunFolder, device: torch.device) -> AutoencoderImageGenerator:
        return AutoencoderImageGenerator(frozen.network(self.recipe, frozen.newest(folder), device), device)

    def _perceptual(self, folder: RunFolder, device: torch.device) -> Perceptual | None:
        section = self.losses.perceptual
        if section is None:
            return None
        if section.run is None:
            assert section.vgg is not None
            vgg = VGG.load(section.vgg, "objective.perceptual.vgg")
            return Perceptual(vgg, vgg.layers()).to(device)
        key = "objective.perceptual.run"
        network: Classifier = classifier.open_run(section.run, key).sealed(device, folder)
        if network.image_shape[0] != self.model.image_channels or self.model.resolution % network.stride:
            found = (
                f"found a classifier of images of {network.image_shape[0]} channels in steps of {network.stride} pixels"
            )
            expected = (
                f"expected one that takes {self.model.image_channels} channels and {self.model.resolution} pixels"
            )
            raise RecipeError(f"{key}: {found}, {expected}")
        return Perceptual(network, network.blocks)

    def _check_codes(self) -> None:
        """Raise RecipeError if there are more codes than latent positions in the whole dataset."""
        if isinstance(self.model.bottleneck, KL):
            return
        codes, side = self.model.bottleneck.codes, self.model.resolution // self.model.stride
        positions = data.count(self.recipe.data, self.image_shape) * side**2
        if codes > positions:
            raise RecipeError(
                f"model.bottleneck: found {codes} codes, expected at most {positions:,}, "
                f"one for each position of a latent in {self.recipe.data.path}"
            )


@dataclass(frozen=True)
class AutoencoderImageGenerator:
    """An autoencoder that reconstructs images."""

    model: Autoencoder
    device: torch.device

    @torch.no_grad()
    def draw(self, request: SampleRequest, sampling: Sampling) -> Tensor:
        """The reconstructions of the requested images, uint8 [N, C, H, W].

        Raises RecipeError if the request has no images.
        """
        if request.images is None:
            raise RecipeError("sampling.examples: found none, expected some for the autoencoder to reconstruct")
        x_NCHW = self.model(from_uint8(request.images.to(self.device)))
        return to_uint8(x_NCHW)


def open_run(path: str, key: str) -> tuple[frozen.BaseRun, AutoencoderRecipe]:
    """The run of an autoencoder at `path`, which the recipe's `key` names, and its `model` section.

    Raises RecipeError for any other run.
    """
    run = frozen.base_run(path, key)
    return run, run.model(AutoencoderRecipe, "an autoencoder")
