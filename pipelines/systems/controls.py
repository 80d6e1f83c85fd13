"""Trained ControlNets, as sampling uses them on their base."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from headrace.errors import DataError, RecipeError
from headrace.models import ControlNet, TextToImage
from headrace.recipe.control import ControlNet as ControlNetRecipe
from headrace.recipe.model import UNet
from headrace.runs import frozen
from headrace.runs.run_folder import RunFolder
from headrace.systems import latents

PLAYER = "control"


def load(path: str, base: RunFolder, network: TextToImage, key: str, device: torch.device) -> ControlNet:
    """The ControlNet of the run at `path`, which the recipe's `key` names, for `network` of the run `base`.

    Raises RecipeError if the run is another's or was trained on another base, DataError if it has no checkpoint yet.
    """
    folder, recipe = frozen.run(path, key)
    if not isinstance(recipe.model, ControlNetRecipe):
        raise RecipeError(f"{key}: found a run of another network at {path}, expected one of a ControlNet")
    if Path(recipe.model.base).resolve() != base.path.resolve():
        raise RecipeError(f"{key}: found a ControlNet of {recipe.model.base} at {path}, expected one of {base.path}")
    try:
        return averaged(folder, fresh(base, network), device)
    except DataError as error:
        raise DataError(f"{key}: {error}") from None


def fresh(base: RunFolder, network: TextToImage) -> ControlNet:
    """A ControlNet of `network`, a U-Net, before training. Raises RecipeError if the network cannot have one."""
    recipe = base.load(("model",))
    assert isinstance(recipe.model, UNet)
    try:
        return ControlNet(network, scale=latents.stride(recipe.model))
    except ValueError as error:
        raise RecipeError(f"model.base: {error}, for a ControlNet") from None


def averaged(folder: RunFolder, control: ControlNet, device: torch.device) -> ControlNet:
    """`control` with the averaged weights of the run in `folder`. Raises DataError if there are none that fit."""
    frozen.load_averaged(nn.ModuleList([control]), folder, PLAYER)
    return control.to(device).eval().requires_grad_(False)
