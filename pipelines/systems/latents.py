"""The frozen autoencoder in whose latents a model denoises."""

from __future__ import annotations

import torch

from headrace.errors import RecipeError
from headrace.models.autoencoder import Autoencoder
from headrace.recipe.discrete import Autoencoder as AutoencoderRecipe
from headrace.recipe.model import DiT, UNet
from headrace.runs import frozen
from headrace.runs.run_folder import RunFolder

KEY = "model.autoencoder"


def image_shape(model: UNet | DiT) -> tuple[int, int, int]:
    """Channels, height and width of the images that are denoised, or encoded to be denoised.

    Raises RecipeError if `model.autoencoder` names no autoencoder's run, or its latents are of another shape.
    """
    shape = (model.image_channels, model.resolution, model.resolution)
    if model.autoencoder is None:
        return shape
    recipe = _recipe(model.autoencoder)
    side = recipe.resolution // recipe.stride
    latent = (recipe.latent_channels, side, side)
    if latent != shape:
        found = f"model.image_channels: found {shape[0]} (model.resolution {shape[1]})"
        raise RecipeError(f"{found}, expected {latent[0]} ({latent[1]}) as the latents of {model.autoencoder}")
    return recipe.image_channels, recipe.resolution, recipe.resolution


def load(model: UNet | DiT, device: torch.device, folder: RunFolder) -> Autoencoder | None:
    """The autoencoder, if there is one, with the weights that the run in `folder` started with.

    Raises DataError if it has none yet or has others by now.
    """
    if model.autoencoder is None:
        return None
    its_folder, recipe = frozen.run(model.autoencoder, KEY)
    return frozen.sealed(its_folder, recipe, device, KEY, folder)


def stride(model: UNet | DiT) -> int:
    """Pixels of an image on each side of a pixel of what is denoised."""
    return 1 if model.autoencoder is None else _recipe(model.autoencoder).stride


def _recipe(path: str) -> AutoencoderRecipe:
    _, recipe = frozen.run(path, KEY)
    if not isinstance(recipe.model, AutoencoderRecipe):
        raise RecipeError(f"{KEY}: found a run of another network at {path}, expected one of an autoencoder")
    return recipe.model
