"""What is minimised: one module for each family."""

from torch import nn

from pipelines.models import Controlled
from pipelines.objectives.control import ControlDiffusion
from pipelines.objectives.diffusion import Diffusion
from pipelines.objectives.game import Batch, Loss, Move, Objective
from pipelines.recipe.training import Diffusion as DiffusionRecipe


def build(recipe: DiffusionRecipe, model: nn.Module) -> Objective:
    """The objective that the `objective` section describes, over `model`."""
    return ControlDiffusion(recipe, model) if isinstance(model, Controlled) else Diffusion(recipe, model)


__all__ = ["Batch", "ControlDiffusion", "Diffusion", "Loss", "Move", "Objective", "build"]
