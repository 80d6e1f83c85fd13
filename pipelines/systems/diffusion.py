"""Denoising diffusion of images or of an autoencoder's latents, conditioned on captions, on labels or on nothing."""

from __future__ import annotations

import functools
from typing import Any

import torch

from headrace import models, objectives
from headrace.errors import RecipeError
from headrace.models import Autoencoder, CaptionTokenizer, ControlNet
from headrace.models.denoiser import check_prediction
from headrace.models.frozen_text import checked_folder
from headrace.recipe import RunRecipe
from headrace.recipe.model import DiT, UNet
from headrace.recipe.objective import Diffusion
from headrace.recipe.text import FrozenText, Text
from headrace.runs import frozen
from headrace.runs.run_folder import RunFolder
from headrace.systems import autoencoder, classifier, controls
from headrace.systems.denoising import DenoisingImageGenerator
from headrace.systems.system import System

Shape = tuple[int, int, int]


class DiffusionSystem(System):
    """The run of a denoiser, with the run of the autoencoder whose latents it denoises, if there is one."""

    def __init__(self, recipe: RunRecipe) -> None:
        """Also raises RecipeError if `model.autoencoder` does not name the run of an autoencoder."""
        super().__init__(recipe)
        self.model = denoiser_section(recipe)
        assert isinstance(recipe.objective, Diffusion)
        self.losses = recipe.objective
        path = self.model.autoencoder
        self._autoencoder = None if path is None else autoencoder.open_run(path, "model.autoencoder")

    def check(self) -> None:
        super().check()
        if self.model.text is not None:
            self.check_column("caption", "the model has text")
        if self.model.labels is not None:
            self.check_column("label", "the model has labels")
        if isinstance(self.model.text, FrozenText):
            checked_folder(self.model.text)
        check_prediction(self.losses.prediction)
        self._check_latents()

    @property
    def denoised_shape(self) -> Shape:
        """Channels, height and width of what is denoised: images, or latents."""
        return self.model.image_channels, self.model.resolution, self.model.resolution

    @property
    def image_shape(self) -> Shape:
        if self._autoencoder is None:
            return self.denoised_shape
        _, section = self._autoencoder
        return section.image_channels, section.resolution, section.resolution

    @property
    def stride(self) -> int:
        """How many image pixels one denoised pixel spans, along each side."""
        return 1 if self._autoencoder is None else self._autoencoder[1].stride

    @property
    def text(self) -> Text | FrozenText | None:
        """The network's caption encoder, if it has one."""
        return self.model.text

    def objective(self, folder: RunFolder, device: torch.device) -> objectives.Objective:
        network = models.build(self.model).to(device)
        return objectives.Diffusion(self.losses, network, self.load_autoencoder(folder, device))

    def load_autoencoder(self, folder: RunFolder, device: torch.device) -> Autoencoder | None:
        """The autoencoder, if there is one, with the weights that the run in `folder` started with.

        Raises DataError if it has no checkpoint yet, or if its weights have changed since.
        """
        return None if self._autoencoder is None else self._autoencoder[0].sealed(device, folder)

    def image_generator(self, folder: RunFolder, device: torch.device) -> DenoisingImageGenerator:
        network = frozen.network(self.recipe, frozen.newest(folder), device)
        return self.image_generator_with(network, folder, device)

    def image_generator_with(
        self, network: Any, folder: RunFolder, device: torch.device, own: tuple[ControlNet, ...] = ()
    ) -> DenoisingImageGenerator:
        """The image generator of `network`, which was trained in `folder`, with the ControlNets of its `own` run.

        Raises RecipeError if it cannot draw as `sampling` says.
        """
        generator = DenoisingImageGenerator(
            recipe=self.losses,
            network=network,
            tokenizer=None if self.text is None else CaptionTokenizer.load(folder.tokenizer),
            shape=self.denoised_shape,
            latents=self.load_autoencoder(folder, device),
            device=device,
            load_classifier=functools.partial(classifier.load, key="sampling.classifier", device=device),
            load_control=functools.partial(
                controls.load, base=folder, network=network, scale=self.stride, key="sampling.controls", device=device
            ),
            own=own,
        )
        generator.check(self.recipe.sampling)
        return generator

    def _check_latents(self) -> None:
        """Raise RecipeError if the autoencoder's latents do not have the shape that the network denoises."""
        if self._autoencoder is None:
            return
        _, section = self._autoencoder
        channels, side = section.latent_channels, section.resolution // section.stride
        if (channels, side, side) != self.denoised_shape:
            found = (
                f"model.image_channels: found {self.model.image_channels} (model.resolution {self.model.resolution})"
            )
            raise RecipeError(f"{found}, expected {channels} ({side}) as the latents of {self.model.autoencoder}")


def denoiser_section(recipe: RunRecipe) -> UNet | DiT:
    """The `model` section of a denoiser. Raises RecipeError if it describes another kind of network."""
    if not isinstance(recipe.model, UNet | DiT):
        raise RecipeError(f"model.network: found {recipe.model.network!r}, expected unet or dit, to denoise with")
    return recipe.model
