"""Trained ControlNets, ready for use with their base.

They are a module apart from `control`, which imports the base's system.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from headrace.errors import RecipeError
from headrace.models import ControlNet, TextToImage
from headrace.recipe.control import ControlNet as ControlNetRecipe
from headrace.runs import frozen
from headrace.runs.checkpoints import Checkpoint
from headrace.runs.run_folder import RunFolder

NETWORK = "control"
"""the name that the objective gives the ControlNet in checkpoints"""


def load(path: str, base: RunFolder, network: TextToImage, scale: int, key: str, device: torch.device) -> ControlNet:
    """The ControlNet of the run at `path`, which the recipe's `key` names, for `network` of the run `base`.

    `scale` is as for `fresh`. Raises RecipeError if the run is not a ControlNet's or was trained on another base,
    DataError if it has no checkpoint yet.
    """
    run = frozen.base_run(path, key)
    trained_on = run.model(ControlNetRecipe, "a ControlNet").base
    if Path(trained_on).resolve() != base.path.resolve():
        raise RecipeError(f"{key}: found a ControlNet of {trained_on} at {path}, expected one of {base.path}")
    return averaged(run.newest(NETWORK), fresh(network, scale), device)


def fresh(network: TextToImage, scale: int) -> ControlNet:
    """A ControlNet of `network`, a U-Net, before training.

    `scale` is how many pixels of a condition one denoised pixel spans, along each side. Raises RecipeError if the
    network cannot have a ControlNet.
    """
    try:
        return ControlNet(network, scale=scale)
    except ValueError as error:
        raise RecipeError(f"model.base: {error}, for a ControlNet") from None


def averaged(checkpoint: Checkpoint, control: ControlNet, device: torch.device) -> ControlNet:
    """`control` with the averaged weights of `checkpoint`. Raises DataError if they do not fit."""
    frozen.load_averaged(nn.ModuleList([control]), checkpoint, NETWORK)
    return control.to(device).eval().requires_grad_(False)
