"""One module for each family of generative models, with a `System` for the trainer, the sampler and the evaluation."""

from collections.abc import Mapping

from headrace.recipe import RunRecipe
from headrace.systems.autoencoder import AutoencoderSystem
from headrace.systems.classifier import ClassifierSystem
from headrace.systems.control import ControlSystem
from headrace.systems.diffusion import DiffusionSystem
from headrace.systems.gan import GanSystem
from headrace.systems.image_generator import ImageGenerator, SampleRequest
from headrace.systems.prior import PriorSystem
from headrace.systems.system import System

SYSTEMS: Mapping[str, type[System]] = {
    "autoencoder": AutoencoderSystem,
    "classifier": ClassifierSystem,
    "control": ControlSystem,
    "diffusion": DiffusionSystem,
    "gan": GanSystem,
    "prior": PriorSystem,
}
"""the system of each `objective.family`"""


def system_for(recipe: RunRecipe) -> System:
    """The system of a run. Make one per command: it reads the recipes of the runs that this run is built on.

    Raises RecipeError if `model` and `objective` belong to different families, or if a base run is missing.
    """
    return SYSTEMS[recipe.objective.family](recipe)


__all__ = ["ImageGenerator", "SampleRequest", "System", "system_for"]
