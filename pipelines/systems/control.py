"""A ControlNet: a trained U-Net is frozen, and a copy of its encoder learns to follow a condition image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from headrace import objectives
from headrace.errors import RecipeError
from headrace.models import Controlled
from headrace.recipe import RunRecipe
from headrace.recipe.control import Control
from headrace.recipe.control import ControlNet as ControlNetRecipe
from headrace.recipe.model import UNet
from headrace.recipe.objective import Diffusion
from headrace.runs import frozen
from headrace.runs.run_folder import RunFolder
from headrace.systems import controls
from headrace.systems.denoising import DenoisingImageGenerator
from headrace.systems.diffusion import DiffusionSystem
from headrace.systems.system import System, model_section

KEY = "model.base"


class ControlSystem(System):
    """The run of a ControlNet. It uses the diffusion system of its base."""

    columns = ("condition",)

    def __init__(self, recipe: RunRecipe) -> None:
        """Raises RecipeError if `model.base` is not a diffusion run of a U-Net."""
        super().__init__(recipe)
        self.run = frozen.base_run(model_section(recipe, ControlNetRecipe, "controlnet").base, KEY)
        if not isinstance(self.run.recipe.objective, Diffusion):
            found = f"found a run of another family at {self.run.folder.path}"
            raise RecipeError(f"{KEY}: {found}, expected one of diffusion")
        self.run.model(UNet, "a U-Net")
        # The base's network and losses, on the data and with the sampling of this run.
        self.base = DiffusionSystem(
            self.run.recipe.model_copy(update={"data": recipe.data, "sampling": recipe.sampling})
        )

    def check(self) -> None:
        super().check()
        self.base.check()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.base.image_shape

    @property
    def text(self) -> Path | None:
        """The tokenizer of the base, if it reads captions."""
        return None if self.base.text is None else self.run.folder.tokenizer

    def objective(self, folder: RunFolder, device: torch.device) -> objectives.Objective:
        """The base's loss. Only the ControlNet is trained."""
        assert isinstance(self.recipe.objective, Control)
        network: Any = self.run.sealed(device, folder)
        control = controls.fresh(network, self.base.stride).to(device)
        losses = self.base.losses.model_copy(update=self.recipe.objective.model_dump(exclude={"family"}))
        latents = self.base.load_autoencoder(self.run.folder, device)
        return objectives.ControlDiffusion(losses, Controlled(network, [control]), latents)

    def image_generator(self, folder: RunFolder, device: torch.device) -> DenoisingImageGenerator:
        """Also raises DataError if the base's weights have changed."""
        network: Any = self.run.sealed(device, folder)
        control = controls.averaged(
            frozen.newest(folder, controls.NETWORK), controls.fresh(network, self.base.stride), device
        )
        return self.base.image_generator_with(network, self.run.folder, device, own=(control,))
