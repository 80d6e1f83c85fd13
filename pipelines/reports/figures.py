"""An evaluation's pictures: what was drawn beside what is real, which labels were seen, curves of a sweep."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from headrace.evaluation.compare import Figures

SMOOTHED_OVER = 0.02


def loss_curve(steps: Sequence[int], losses: Sequence[float]) -> bytes:
    """A PNG of the loss by step, with its running mean over 2 % of the run. Both axes are linear."""
    figure = Figure(figsize=(8, 3.2), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot(steps, losses, color="#b8c4d6", linewidth=0.6, label="loss")
    axes.plot(steps, running_mean(losses), color="#1f4e9c", linewidth=1.6, label="running mean")
    if len(losses):
        axes.set_ylim(0, float(np.nanquantile(losses, 0.995)) * 1.1 or 1.0)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()


def running_mean(values: Sequence[float]) -> np.ndarray:
    """The mean of each value and those before it, over a window of 2 % of all (at least 10 values)."""
    window = max(10, round(len(values) * SMOOTHED_OVER))
    sums = np.concatenate([[0.0], np.cumsum(np.asarray(values, dtype=np.float64))])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


ROWS, COLUMNS = 10, 8
COLOURS = ("#1f4e9c", "#c2571a", "#3a7d44", "#7b3fa0", "#b8860b", "#5f6b7a")


def rows_of(names: Sequence[object], count: int = COLUMNS) -> list[tuple[str, list[int]]]:
    """A row of a grid for each of the first names: up to `count` places where it occurs. At most ten rows."""
    places: dict[object, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    full = {name: found[:count] for name, found in places.items() if len(found) >= count} or places
    ordered = sorted(full.items(), key=lambda item: str(item[0]))[:ROWS]
    shortest = min(len(found[:count]) for _, found in ordered)
    return [("" if name is None else str(name), found[:shortest]) for name, found in ordered]


def gathered(images_NCHW: Tensor, rows: Sequence[tuple[str, list[int]]]) -> Tensor:
    """The images of a grid's rows: uint8 [P, I, C, H, W]."""
    return torch.stack([images_NCHW[places] for _, places in rows])


def confusion(asked_N: Tensor, seen_N: Tensor) -> bytes:
    """A PNG of how often each label was seen where each was asked for, in shares of those asked for."""
    size = int(max(asked_N.max(), seen_N.max())) + 1
    counts = torch.bincount(asked_N * size + seen_N, minlength=size * size).reshape(size, size).double()
    shares = (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    figure = _figure(5, 4.6)
    axes = figure.subplots()
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set_xlabel("label seen")
    axes.set_ylabel("label asked for")
    if size <= 20:
        axes.set_xticks(range(size))
        axes.set_yticks(range(size))
        for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "#1c2430"
            axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", color=colour, fontsize=7)
    return _png(figure)


def sweep_curves(varied: Sequence[dict[str, Any]], figures: Sequence[Figures], names: Sequence[str]) -> bytes:
    """A PNG with a panel for each of `names`: its value and interval along the first swept key of numbers.

    Other swept keys tell lines apart. Raises ValueError where no swept key is of numbers.
    """
    numeric = [key for key in varied[0] if all(isinstance(each[key], int | float) for each in varied)]
    if not numeric:
        raise ValueError(f"sweep: found {', '.join(varied[0])}, expected a key whose values are numbers")
    along = numeric[0]
    lines: dict[str, list[int]] = {}
    for place, each in enumerate(varied):
        name = ", ".join(f"{key} {value}" for key, value in each.items() if key != along)
        lines.setdefault(name, []).append(place)
    shown = [name for name in names if all(name in each for each in figures)]
    figure = _figure(3.6 * len(shown), 3.2)
    for panel, name in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), panel + 1)
        for number, (line, places) in enumerate(lines.items()):
            points = [(varied[place][along], figures[place][name]) for place in places]
            points.sort(key=lambda point: point[0])
            x = [point[0] for point in points]
            y = np.array([(m.value, m.low, m.high) for _, m in points])
            colour = COLOURS[number % len(COLOURS)]
            axes.plot(x, y[:, 0], color=colour, marker="o", markersize=3, linewidth=1.4, label=line)
            axes.fill_between(x, y[:, 1], y[:, 2], color=colour, alpha=0.15, linewidth=0)
        axes.set_xlabel(along)
        axes.set_title(name, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        if min(x) > 0 and max(x) / min(x) >= 20:
            axes.set_xscale("log")
    if len(lines) > 1:
        figure.axes[0].legend(frameon=False, fontsize=8)
    return _png(figure)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Figure) -> bytes:
    png = io.BytesIO()
    figure.savefig(png, format="png")
    return png.getvalue()
