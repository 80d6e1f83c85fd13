"""What is minimised: one module for each family."""

from torch import nn

from pipelines.objectives.diffusion import Diffusion
from pipelines.objectives.game import Batch, Loss, Move, Objective
from pipelines.recipe.training import Diffusion as DiffusionRecipe


def build(recipe: DiffusionRecipe, model: nn.Module) -> Objective:
    """The objective that the `objective` section describes, over `model`."""
    return Diffusion(recipe, model)


__all__ = ["Batch", "Diffusion", "Loss", "Move", "Objective", "build"]
