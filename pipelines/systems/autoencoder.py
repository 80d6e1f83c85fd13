"""Autoencoders: what latent models are trained on, and what draws images again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from headrace import models, objectives
from headrace.errors import RecipeError
from headrace.models import Autoencoder, Classifier
from headrace.models.patchgan import PatchDiscriminator
from headrace.models.perceptual import VGG, Perceptual
from headrace.models.pixels import from_uint8, to_uint8
from headrace.recipe import Recipe
from headrace.recipe.classifier import Classifier as ClassifierRecipe
from headrace.recipe.discrete import KL, Autoencoding
from headrace.recipe.discrete import Autoencoder as AutoencoderRecipe
from headrace.recipe.text import Text
from headrace.recipe.training import Sampling
from headrace.runs import data, frozen
from headrace.runs.run_folder import RunFolder, Sections
from headrace.systems.image_generator import SampleRequest

WANTS: frozenset[str] = frozenset()


def image_shape(of: Sections) -> tuple[int, int, int]:
    """The images that the network sees. Raises RecipeError for an adversary where ranks share weights."""
    model = _network(of)
    assert isinstance(of.objective, Autoencoding)
    if of.objective.discriminator is not None and of.training.parallel != "ddp":
        expected = (
            "expected ddp: the adaptive weight differentiates inside of a loss, where shared weights are given back"
        )
        raise RecipeError(f"training.parallel: found {of.training.parallel!r}, {expected}")
    return model.image_channels, model.resolution, model.resolution


def text(of: Sections) -> Text | Path | None:
    """None: it reads no captions."""
    return None


def objective(of: Sections, folder: RunFolder, device: torch.device) -> objectives.Objective:
    """Reconstruction by the network of the recipe.

    Raises RecipeError if the codebook is larger than the data or features are compared by a network of other images.
    """
    recipe, network = of.objective, _network(of)
    assert isinstance(recipe, Autoencoding)
    _check_codes(of, network)
    model = models.build(network).to(device)
    discriminator = None
    if recipe.discriminator is not None:
        discriminator = PatchDiscriminator(recipe.discriminator, network.image_channels)
        discriminator.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    raw = next(iter(data.examples(of.data, image_shape(of), recipe.watched)))
    fixed_NCHW = from_uint8(raw[of.data.image].to(device))
    return objectives.Reconstruction(
        recipe,
        model,
        perceptual=_perceptual(recipe, network, device, folder),
        discriminator=discriminator,
        fixed_NCHW=fixed_NCHW,
    )


@dataclass(frozen=True)
class AutoencoderImageGenerator:
    """An autoencoder that draws images again."""

    model: Autoencoder
    device: torch.device

    @torch.no_grad()
    def draw(self, request: SampleRequest, sampling: Sampling) -> Tensor:
        """The reconstructions of the images, uint8 [N, C, H, W]. Raises RecipeError without images."""
        if request.images is None:
            raise RecipeError("sampling.examples: found none, expected some: an autoencoder draws images again")
        x_NCHW = self.model(from_uint8(request.images.to(self.device)))
        return to_uint8(x_NCHW)


def image_generator(folder: RunFolder, recipe: Recipe, device: torch.device) -> AutoencoderImageGenerator:
    """The averaged weights of the run's newest whole checkpoint. Raises DataError if there is none yet."""
    return AutoencoderImageGenerator(frozen.network(folder, recipe, device), device)


def load(path: str, key: str, device: torch.device, user: RunFolder) -> Autoencoder:
    """The trained autoencoder of the run at `path`, which the recipe's `key` names, for the run `user` built on it.

    Raises RecipeError if the run is another's, DataError if it has no checkpoint yet or other weights than before.
    """
    folder, recipe = frozen.run(path, key)
    if not isinstance(recipe.model, AutoencoderRecipe):
        raise RecipeError(f"{key}: found a run of another network at {path}, expected one of an autoencoder")
    return frozen.sealed(folder, recipe, device, key, user)


def _network(of: Sections) -> AutoencoderRecipe:
    if not isinstance(of.model, AutoencoderRecipe):
        raise RecipeError(f"model.network: found {of.model.network!r}, expected 'autoencoder' as objective.family is")
    return of.model


def _perceptual(
    recipe: Autoencoding, network: AutoencoderRecipe, device: torch.device, user: RunFolder
) -> Perceptual | None:
    if recipe.perceptual is None:
        return None
    if recipe.perceptual.vgg is not None:
        vgg = VGG.load(recipe.perceptual.vgg, "objective.perceptual.vgg")
        return Perceptual(vgg, vgg.layers()).to(device)
    assert recipe.perceptual.run is not None
    key = "objective.perceptual.run"
    folder, theirs = frozen.run(recipe.perceptual.run, key)
    if not isinstance(theirs.model, ClassifierRecipe):
        raise RecipeError(f"{key}: found a run of another network at {folder.path}, expected one of a classifier")
    eyes: Classifier = frozen.sealed(folder, theirs, device, key, user)
    if eyes.image_shape[0] != network.image_channels or network.resolution % eyes.stride:
        found = f"found a classifier of images of {eyes.image_shape[0]} channels in steps of {eyes.stride} pixels"
        expected = f"expected one that takes {network.image_channels} channels and {network.resolution} pixels"
        raise RecipeError(f"{key}: {found}, {expected}")
    return Perceptual(eyes, eyes.blocks)


def _check_codes(of: Sections, network: AutoencoderRecipe) -> None:
    """Raise RecipeError if there are more codes than places for them in the whole dataset."""
    if isinstance(network.bottleneck, KL):
        return
    places = data.count(of.data, image_shape(of)) * (network.resolution // network.stride) ** 2
    if network.bottleneck.codes > places:
        raise RecipeError(
            f"model.bottleneck: found {network.bottleneck.codes} codes, expected at most {places:,}, "
            f"one for each position of a latent in {of.data.path}"
        )
