"""One module for each family of generative models: how the trainer, the sampler and the evaluation meet it.

Each has `WANTS`, `image_shape`, `text`, `objective` and `image_generator`, as `System` says.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch

from headrace.errors import RecipeError
from headrace.objectives import Objective
from headrace.recipe import Recipe
from headrace.recipe.text import FrozenText, Text
from headrace.runs.run_folder import RunFolder, Sections
from headrace.samplers import named
from headrace.systems import autoencoder, classifier, control, diffusion, gan, prior
from headrace.systems.image_generator import ImageGenerator, SampleRequest


class System(Protocol):
    """What a module of this folder offers."""

    WANTS: frozenset[str]
    """keys of `data` that must name a column: of `caption`, `label` and `condition`"""

    def image_shape(self, of: Sections) -> tuple[int, int, int]:
        """Channels, height and width of the images that the loader gives."""
        ...

    def text(self, of: Sections) -> Text | FrozenText | Path | None:
        """The encoder whose tokenizer is learned from the dataset or comes with it, or the tokenizer's file.

        None: no captions.
        """
        ...

    def objective(self, of: Sections, folder: RunFolder, device: torch.device) -> Objective:
        """The networks, fresh from torch's generator, and what is minimised over them."""
        ...

    def image_generator(self, folder: RunFolder, recipe: Recipe, device: torch.device) -> ImageGenerator:
        """What draws from the newest checkpoint. Raises DataError if there is none, RecipeError if it cannot draw."""
        ...


SYSTEMS: Mapping[str, System] = {
    "autoencoder": autoencoder,
    "prior": prior,
    "classifier": classifier,
    "control": control,
    "diffusion": diffusion,
    "gan": gan,
}


def of(recipe: Recipe) -> System:
    """The system that a recipe's `objective.family` names."""
    assert recipe.objective is not None
    return SYSTEMS[recipe.objective.family]


def check(recipe: Recipe) -> None:
    """Raise RecipeError if `data` lacks a column that the recipe's system wants, or there is no such sampler."""
    if recipe.sampling is not None:
        named(recipe.sampling)
    assert recipe.data is not None
    assert recipe.objective is not None
    for key in sorted(of(recipe).WANTS):
        if getattr(recipe.data, key) is None:
            expected = f"expected a column, for objective.family is {recipe.objective.family}"
            raise RecipeError(f"data.{key}: found nothing, {expected}")


__all__ = ["ImageGenerator", "SampleRequest", "System", "check", "of"]
