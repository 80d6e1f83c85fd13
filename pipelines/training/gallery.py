"""Grids of samples while a run goes on: what the recipe's `sampling` asks for, drawn from the newest checkpoint."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path

import torch

from headrace import systems
from headrace.errors import DataError, RecipeError
from headrace.recipe import Recipe
from headrace.runs.run_folder import RunFolder, sections
from headrace.sampling.draw import draw, rows
from headrace.sampling.grid import write_grid


class Gallery:
    """Draws a run's samples, a few at a time, so that drawing takes no more memory than training."""

    def __init__(self, recipe: Recipe, folder: RunFolder, device: torch.device, most: int) -> None:
        """`most` is how many images may be drawn at once.

        Raises RecipeError if the recipe asks for no samples, or its system draws none.
        """
        if recipe.sampling is None:
            raise RecipeError("sampling: found nothing, expected this section for training.sample_every")
        of = sections(recipe)
        self._recipe, self._folder, self._device = recipe, folder, device
        self._sampling = recipe.sampling.model_copy(update={"batch_size": min(most, recipe.sampling.batch_size)})
        system = systems.of(recipe)
        self._rows = rows(self._sampling, of, system.image_shape(of))
        with contextlib.suppress(DataError):  # no checkpoint yet
            system.image_generator(folder, recipe, device)

    def draw(self, step: int) -> Path:
        """Draw from the newest checkpoint, which is of step `step`; returns the picture's path."""
        image_generator = systems.of(self._recipe).image_generator(self._folder, self._recipe, self._device)
        request = (
            self._rows.request if self._sampling.per_prompt == 1 else self._rows.repeated(self._sampling.per_prompt)
        )
        images_NCHW = draw(image_generator, request, self._sampling)
        del image_generator
        if self._device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
        self._folder.samples.mkdir(exist_ok=True)
        path = self._folder.samples / f"step-{step:08d}.png"
        write_grid(path, self._rows.titles, images_NCHW.unflatten(0, (-1, self._sampling.per_prompt)))
        return path
