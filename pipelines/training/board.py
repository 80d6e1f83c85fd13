"""Figures and grids for TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.image import imread


class Board:
    """Writes TensorBoard's event files. A step that is repeated replaces the older one."""

    def __init__(self, folder: Path, step: int) -> None:
        """Continue after `step`. TensorBoard discards what an earlier process wrote after it."""
        from torch.utils.tensorboard import SummaryWriter  # takes a second to import

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def write(self, figures: Mapping[str, float | int | None]) -> None:
        """Write the figures of one step."""
        step = int(figures["step"] or 0)
        for name, value in figures.items():
            if name != "step" and value is not None:
                self._writer.add_scalar(name, value, step)

    def picture(self, path: Path, step: int) -> None:
        """Write the grid of samples at `path`."""
        image_HWC = imread(path)
        self._writer.add_image("samples", image_HWC, step, dataformats="HWC")

    def flush(self) -> None:
        """Flush to disk."""
        self._writer.flush()

    def close(self) -> None:
        """Flush and close the files."""
        self._writer.close()
