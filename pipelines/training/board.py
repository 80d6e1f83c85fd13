"""Figures and grids for TensorBoard, beside the run's own files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.image import imread


class Board:
    """Writes TensorBoard's event files; lines of steps that are done again replace the older ones."""

    def __init__(self, folder: Path, step: int) -> None:
        """Go on after `step`."""
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, figures: Mapping[str, float | int | None]) -> None:
        """One step's figures."""
        step = int(figures["step"] or 0)
        for name, value in figures.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, value, step)

    def picture(self, path: Path, step: int) -> None:
        """A grid of samples."""
        image_HWC = imread(path)
        self._writer.add_image("samples", image_HWC, step, dataformats="HWC")

    def flush(self) -> None:
        """Put what was written on disk."""
        self._writer.flush()

    def close(self) -> None:
        """Write the rest."""
        self._writer.close()
