"""Networks of finished runs, as they are used by others: averaged weights, evaluation mode, nothing to train."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pipelines import models
from pipelines.errors import DataError, RecipeError
from pipelines.recipe import Recipe
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.run_folder import RunFolder


def network(folder: RunFolder, recipe: Recipe, device: torch.device) -> Any:
    """The network that the run in `folder` trains by `recipe`, its weights those averaged up to the newest checkpoint.

    Raises DataError if the run has no whole checkpoint yet or one of another architecture.
    """
    assert recipe.model is not None
    model: nn.Module = models.build(recipe.model)
    load_averaged(model, folder, "model")
    return model.to(device).eval().requires_grad_(False)


def load_averaged(module: nn.Module, folder: RunFolder, player: str) -> None:
    """Load the averaged weights of `player` from the newest whole checkpoint.

    Raises DataError if the run has no whole checkpoint yet or one of another architecture.
    """
    checkpoint = Checkpoints(folder.checkpoints).newest()
    if checkpoint is None:
        raise DataError(f"{folder.checkpoints}: found no checkpoint, expected a run that has saved at least one")
    try:
        module.load_state_dict(checkpoint.tensors(f"{player}.ema"))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise DataError(f"{folder.checkpoints}: found weights of another architecture ({first})") from None


def run(path: str, key: str) -> tuple[RunFolder, Recipe]:
    """The run folder that the recipe's `key` names, and its recipe. Raises RecipeError if it is none."""
    folder = RunFolder(Path(path))
    try:
        return folder, folder.load(("model", "objective"))
    except RecipeError as error:
        raise RecipeError(f"{key}: {error}") from None
