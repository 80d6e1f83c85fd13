"""Denoising diffusion, of images or of an autoencoder's latents, from captions, labels or nothing."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch

from headrace import models, objectives
from headrace.errors import RecipeError
from headrace.models import CaptionTokenizer
from headrace.models.denoiser import check_prediction
from headrace.models.frozen_text import checked_folder
from headrace.recipe import Recipe
from headrace.recipe.model import DiT, UNet
from headrace.recipe.objective import Diffusion
from headrace.recipe.text import FrozenText, Text
from headrace.runs import frozen
from headrace.runs.run_folder import RunFolder, Sections, sections
from headrace.systems import classifier, controls, latents
from headrace.systems.denoising import DenoisingImageGenerator

WANTS: frozenset[str] = frozenset()


def image_shape(of: Sections) -> tuple[int, int, int]:
    """The images that the network, or its autoencoder, sees.

    Raises RecipeError if the sections do not fit each other.
    """
    model = network_of(of)
    for key, wanted in (("caption", model.text), ("label", model.labels)):
        if wanted is not None and getattr(of.data, key) is None:
            column = {"caption": "text", "label": "labels"}[key]
            raise RecipeError(f"data.{key}: found nothing, expected a column, for the model has {column}")
    if isinstance(model.text, FrozenText):
        checked_folder(model.text)
    if isinstance(of.objective, Diffusion):  # a ControlNet has that of its base
        check_prediction(of.objective.prediction)
    return latents.image_shape(model)


def text(of: Sections) -> Text | FrozenText | Path | None:
    """The network's caption encoder."""
    return network_of(of).text


def objective(of: Sections, folder: RunFolder, device: torch.device) -> objectives.Objective:
    """Denoising by the network of the recipe."""
    assert isinstance(of.objective, Diffusion)
    model = network_of(of)
    network = models.build(model).to(device)
    return objectives.Diffusion(of.objective, network, latents.load(model, device, folder))


def image_generator(folder: RunFolder, recipe: Recipe, device: torch.device) -> DenoisingImageGenerator:
    """The averaged weights of the run's newest whole checkpoint. Raises DataError if there is none yet."""
    network = frozen.network(folder, recipe, device)
    made = image_generator_of(folder, recipe, network, device)
    if recipe.sampling is not None:
        made.check(recipe.sampling)
    return made


def image_generator_of(
    folder: RunFolder, recipe: Recipe, network: Any, device: torch.device, **own: Any
) -> DenoisingImageGenerator:
    """What draws by `network`, trained by `recipe` in `folder`."""
    of = sections(recipe)
    assert isinstance(of.objective, Diffusion)
    model = network_of(of)
    return DenoisingImageGenerator(
        recipe=of.objective,
        network=network,
        tokenizer=None if model.text is None else CaptionTokenizer.load(folder.tokenizer),
        shape=(model.image_channels, model.resolution, model.resolution),
        latents=latents.load(model, device, folder),
        device=device,
        classifier_of=functools.partial(classifier.load, key="sampling.classifier", device=device),
        control_of=functools.partial(
            controls.load, base=folder, network=network, key="sampling.controls", device=device
        ),
        **own,
    )


def network_of(of: Sections) -> UNet | DiT:
    """The `model` section. Raises RecipeError if it is no denoiser's."""
    if not isinstance(of.model, UNet | DiT):
        raise RecipeError(f"model.network: found {of.model.network!r}, expected unet or dit, to denoise with")
    return of.model
