"""Grids of samples during a run: the rows of the recipe's `sampling`, drawn from the newest checkpoint."""

from __future__ import annotations

import contextlib
import gc
from pathlib import Path

import torch

from headrace.errors import DataError
from headrace.runs.run_folder import RunFolder
from headrace.sampling.draw import draw, rows
from headrace.sampling.grid import write_grid
from headrace.systems import System


class Gallery:
    """Draws a run's samples a few at a time, so that drawing needs no more memory than training."""

    def __init__(self, system: System, folder: RunFolder, device: torch.device, most: int) -> None:
        """`most` is how many images may be drawn at once.

        Raises RecipeError if `sampling` has no rows, or if the system cannot draw them.
        """
        self._system, self._folder, self._device = system, folder, device
        sampling = system.recipe.sampling
        self._sampling = sampling.model_copy(update={"batch_size": min(most, sampling.batch_size)})
        self._rows = rows(system.recipe, system.image_shape)
        with contextlib.suppress(DataError):  # no checkpoint yet
            system.image_generator(folder, device)

    def draw(self, step: int) -> Path:
        """Draw from the newest checkpoint, which is that of step `step`. Returns the path of the grid."""
        image_generator = self._system.image_generator(self._folder, self._device)
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
