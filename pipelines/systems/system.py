"""The interface of each family of generative models to the trainer, the sampler and the evaluation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, TypeVar

import torch

from headrace.errors import RecipeError
from headrace.objectives import Objective
from headrace.recipe import RunRecipe
from headrace.recipe.text import FrozenText, Text
from headrace.runs.run_folder import RunFolder
from headrace.samplers import named
from headrace.systems.image_generator import ImageGenerator

Model = TypeVar("Model")


class System(ABC):
    """The family of one run, made once from its recipe.

    The runs that it is built on are opened when the system is made or used, and their YAML is read once.
    """

    columns: ClassVar[tuple[str, ...]] = ()
    """keys of `data` that must always name a column, whatever the other sections say"""

    def __init__(self, recipe: RunRecipe) -> None:
        """Subclasses raise RecipeError if `model.network` belongs to another family, or if a base run is missing."""
        self.recipe = recipe

    def check(self) -> None:
        """Raise RecipeError if the sections of the recipe do not fit together. Builds and draws nothing."""
        named(self.recipe.sampling)
        for key in self.columns:
            self.check_column(key, f"objective.family is {self.recipe.objective.family}")

    def check_column(self, key: str, reason: str) -> None:
        """Raise RecipeError if `data` names no column for `key`; `reason` says why one is needed."""
        if getattr(self.recipe.data, key) is None:
            raise RecipeError(f"data.{key}: found nothing, expected a column, because {reason}")

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the images that the loader reads and that the system draws."""

    @property
    def text(self) -> Text | FrozenText | Path | None:
        """The source of the caption tokenizer: a caption encoder, or another run's file. None without captions."""
        return None

    @abstractmethod
    def objective(self, folder: RunFolder, device: torch.device) -> Objective:
        """The networks, initialised from torch's generator, and the losses to minimise."""

    @abstractmethod
    def image_generator(self, folder: RunFolder, device: torch.device) -> ImageGenerator:
        """The image generator with the averaged weights of the newest complete checkpoint in `folder`.

        Raises DataError if there is no checkpoint yet, RecipeError if the system cannot draw as `sampling` says.
        """


def model_section(recipe: RunRecipe, kind: type[Model], network: str) -> Model:
    """The `model` section, of type `kind`. Raises RecipeError if it describes another kind of network."""
    if not isinstance(recipe.model, kind):
        found = f"model.network: found {recipe.model.network!r}"
        raise RecipeError(f"{found}, expected {network!r} as objective.family is {recipe.objective.family}")
    return recipe.model
