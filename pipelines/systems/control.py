"""A ControlNet: a trained U-Net stays as it is, and a copy of its encoder learns to obey an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from headrace import objectives
from headrace.errors import RecipeError
from headrace.models import Controlled
from headrace.recipe import Recipe
from headrace.recipe.control import Control
from headrace.recipe.control import ControlNet as ControlNetRecipe
from headrace.recipe.model import UNet
from headrace.recipe.objective import Diffusion
from headrace.runs import frozen
from headrace.runs.run_folder import RunFolder, Sections, sections
from headrace.systems import controls, diffusion, latents
from headrace.systems.denoising import DenoisingImageGenerator

WANTS = frozenset({"condition"})
KEY = "model.base"


def image_shape(of: Sections) -> tuple[int, int, int]:
    """The images that the base, or its autoencoder, sees. Raises RecipeError if there is no such base."""
    _, recipe = _base(of)
    base = sections(recipe)
    return diffusion.image_shape(base._replace(data=of.data))


def text(of: Sections) -> Path | None:
    """The base's tokenizer."""
    folder, recipe = _base(of)
    return None if diffusion.text(sections(recipe)) is None else folder.tokenizer


def objective(of: Sections, folder: RunFolder, device: torch.device) -> objectives.Objective:
    """The base's own loss, of which the ControlNet alone is trained."""
    assert isinstance(of.objective, Control)
    base, recipe = _base(of)
    network: Any = frozen.sealed(base, recipe, device, KEY, folder)
    control = controls.fresh(base, network).to(device)
    assert isinstance(recipe.objective, Diffusion)
    loss = recipe.objective.model_copy(update=of.objective.model_dump(include={"min_snr", "drop_caption"}))
    seen = latents.load(diffusion.network_of(sections(recipe)), device, base)
    return objectives.ControlDiffusion(loss, Controlled(network, [control]), seen)


def image_generator(folder: RunFolder, recipe: Recipe, device: torch.device) -> DenoisingImageGenerator:
    """The base with this run's ControlNet. Raises DataError if that has no checkpoint yet or the base has changed."""
    base, base_recipe = _base(sections(recipe))
    network: Any = frozen.sealed(base, base_recipe, device, KEY, folder)
    control = controls.averaged(folder, controls.fresh(base, network), device)
    made = diffusion.image_generator_of(base, base_recipe, network, device, own=(control,))
    if recipe.sampling is not None:
        made.check(recipe.sampling)
    return made


def _base(of: Sections) -> tuple[RunFolder, Recipe]:
    if not isinstance(of.model, ControlNetRecipe):
        raise RecipeError(f"model.network: found {of.model.network!r}, expected 'controlnet' as objective.family is")
    folder, recipe = frozen.run(of.model.base, KEY)
    if not isinstance(recipe.objective, Diffusion):
        raise RecipeError(f"{KEY}: found a run of another family at {folder.path}, expected one of diffusion")
    if not isinstance(recipe.model, UNet):
        raise RecipeError(f"{KEY}: found a run of another network at {folder.path}, expected one of a U-Net")
    return folder, recipe
