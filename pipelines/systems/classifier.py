"""Classifiers of noisy images: they guide samplers, extract features, and judge what an image shows."""

from __future__ import annotations

from typing import NoReturn

import torch

from headrace import models, objectives
from headrace.errors import RecipeError
from headrace.models import Classifier
from headrace.recipe import RunRecipe
from headrace.recipe.classifier import Classification
from headrace.recipe.classifier import Classifier as ClassifierRecipe
from headrace.runs.frozen import BaseRun, base_run
from headrace.runs.run_folder import RunFolder
from headrace.systems.system import System, model_section


class ClassifierSystem(System):
    """A classifier's run. It draws nothing."""

    columns = ("label",)

    def __init__(self, recipe: RunRecipe) -> None:
        super().__init__(recipe)
        self.model = model_section(recipe, ClassifierRecipe, "classifier")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.model.image_channels, self.model.resolution, self.model.resolution

    def objective(self, folder: RunFolder, device: torch.device) -> objectives.Objective:
        assert isinstance(self.recipe.objective, Classification)
        return objectives.NoisyClassification(self.recipe.objective, models.build(self.model).to(device))

    def image_generator(self, folder: RunFolder, device: torch.device) -> NoReturn:
        """Always raises RecipeError: a classifier draws nothing."""
        raise RecipeError(f"{folder.path}: found a classifier, expected a run that draws images")


def open_run(path: str, key: str) -> BaseRun:
    """The run of a classifier at `path`, which the recipe's `key` names. Raises RecipeError for any other run."""
    run = base_run(path, key)
    run.model(ClassifierRecipe, "a classifier")
    return run


def load(path: str, key: str, device: torch.device) -> Classifier:
    """The trained classifier of the run at `path`, which the recipe's `key` names.

    Raises RecipeError for any other run, DataError if it has no checkpoint yet.
    """
    run = open_run(path, key)
    return run.network(run.newest(), device)
