"""Pictures of samples: one file each, and a grid with a row for each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from headrace.files import atomic, write_bytes

DOTS_PER_INCH = 100
CELL_INCHES = 1.0
LABEL_INCHES = 2.0


def write_png(path: Path, image_CHW: Tensor) -> None:
    """Write one uint8 image, grey or RGB."""
    rgb = _rgb(image_CHW)
    encoded = cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1]
    write_bytes(path, encoded.tobytes())


def write_grid(path: Path, prompts: Sequence[str], images_PICHW: Tensor) -> None:
    """Write one picture with a row for each prompt: the prompt as a label, and its images beside it."""
    rows, columns = images_PICHW.shape[:2]
    size = (LABEL_INCHES + columns * CELL_INCHES, rows * CELL_INCHES)
    figure = Figure(figsize=size, dpi=DOTS_PER_INCH)
    for row, prompt in enumerate(prompts):
        middle = 1 - (row + 0.5) / rows
        label = figure.text((LABEL_INCHES - 0.1) / size[0], middle, prompt, ha="right", va="center", wrap=True)
        label._get_wrap_line_width = lambda: (LABEL_INCHES - 0.2) * DOTS_PER_INCH  # type: ignore[attr-defined]
        for column in range(columns):
            left = (LABEL_INCHES + column * CELL_INCHES) / size[0]
            box = (left, 1 - (row + 1) / rows, 0.96 * CELL_INCHES / size[0], 0.96 / rows)
            axes = figure.add_axes(box)
            axes.imshow(_rgb(images_PICHW[row, column]), interpolation="nearest")
            axes.set_axis_off()
    with atomic(path) as hidden:
        figure.savefig(hidden, format="png")


def _rgb(image_CHW: Tensor) -> np.ndarray:
    """An image of one or three channels as [H, W, 3]."""
    return image_CHW.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy()
