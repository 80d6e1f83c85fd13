"""A classifier of noisy images: for guidance, and as the eyes that compare sets of clean images."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import torch

from headrace import models, objectives
from headrace.errors import DataError, RecipeError
from headrace.models import Classifier
from headrace.recipe import Recipe
from headrace.recipe.classifier import Classification
from headrace.recipe.classifier import Classifier as ClassifierRecipe
from headrace.recipe.text import Text
from headrace.runs import frozen
from headrace.runs.run_folder import RunFolder, Sections

WANTS = frozenset({"label"})


def image_shape(of: Sections) -> tuple[int, int, int]:
    """The images that the network sees."""
    model = _network(of)
    return model.image_channels, model.resolution, model.resolution


def text(of: Sections) -> Text | Path | None:
    """None: it reads no captions."""
    return None


def objective(of: Sections, folder: RunFolder, device: torch.device) -> objectives.Objective:
    """Classification by the network of the recipe."""
    assert isinstance(of.objective, Classification)
    return objectives.NoisyClassification(of.objective, models.build(_network(of)).to(device))


def image_generator(folder: RunFolder, recipe: Recipe, device: torch.device) -> NoReturn:
    """Raises RecipeError: a classifier draws nothing."""
    raise RecipeError(f"{folder.path}: found a classifier, expected a run that draws images")


def load(path: str, key: str, device: torch.device) -> Classifier:
    """The trained classifier of the run at `path`, which the recipe's `key` names.

    Raises RecipeError if the run is another's, DataError if it has no checkpoint yet.
    """
    return load_at(path, key, device)[0]


def load_at(path: str, key: str, device: torch.device) -> tuple[Classifier, int]:
    """The result of `load`, and the step of the checkpoint that its weights are from."""
    folder, recipe = frozen.run(path, key)
    if not isinstance(recipe.model, ClassifierRecipe):
        raise RecipeError(f"{key}: found a run of another network at {path}, expected one of a classifier")
    try:
        return frozen.network_at(folder, recipe, device)
    except DataError as error:
        raise DataError(f"{key}: {error}") from None


def _network(of: Sections) -> ClassifierRecipe:
    if not isinstance(of.model, ClassifierRecipe):
        raise RecipeError(f"model.network: found {of.model.network!r}, expected 'classifier' as objective.family is")
    return of.model
