"""Figures of runs and evaluations: loss curves, grids of drawn and real images, confusion of labels, sweeps."""

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
ROWS, COLUMNS = 10, 8
COLOURS = ("#1f4e9c", "#c2571a", "#3a7d44", "#7b3fa0", "#b8860b", "#5f6b7a")


def loss_curve(steps: Sequence[int], losses: Sequence[float]) -> bytes:
    """A PNG of the loss by step, with its running mean over 2 % of the run. Both axes are linear."""
    figure = _figure(8, 3.2)
    axes = figure.subplots()
    axes.plot(steps, losses, color="#b8c4d6", linewidth=0.6, label="loss")
    axes.plot(steps, running_mean(losses), color="#1f4e9c", linewidth=1.6, label="running mean")
    if not np.isnan(losses).all():
        axes.set_ylim(0, float(np.nanquantile(losses, 0.995)) * 1.1 or 1.0)
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)


def running_mean(values: Sequence[float]) -> np.ndarray:
    """The mean of each value and those before it, over a window of 2 % of all (at least 10 values).

    NaN is a missing value and is left out. The mean of a window that has nothing else is NaN.
    """
    window = max(10, round(len(values) * SMOOTHED_OVER))
    known = ~np.isnan(np.asarray(values, dtype=np.float64))
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    found = counts[ends] - counts[starts]
    return np.where(found > 0, (sums[ends] - sums[starts]) / np.maximum(found, 1), np.nan)


def rows_of(names: Sequence[object], count: int = COLUMNS) -> list[tuple[str, list[int]]]:
    """The rows of a grid: a (name, places) pair for each of up to 10 names, with up to `count` places of the name.

    All rows have the same length. Names with fewer places are left out unless all have fewer.
    """
    places: dict[object, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    full = {name: found[:count] for name, found in places.items() if len(found) >= count} or places
    ordered = sorted(full.items(), key=lambda item: str(item[0]))[:ROWS]
    shortest = min(len(found[:count]) for _, found in ordered)
    return [("" if name is None else str(name), found[:shortest]) for name, found in ordered]


def gathered(images_NCHW: Tensor, rows: Sequence[tuple[str, list[int]]]) -> Tensor:
    """The images of a grid, [rows, columns, C, H, W], with the type of `images_NCHW`."""
    return torch.stack([images_NCHW[places] for _, places in rows])


def confusion(requested_N: Tensor, recognised_N: Tensor) -> bytes:
    """A PNG of how often each label was recognised for each requested label, as a fraction of the latter.

    Both are int64 [N] and at least 0.
    """
    size = int(max(requested_N.max(), recognised_N.max())) + 1
    counts = torch.bincount(requested_N * size + recognised_N, minlength=size * size).reshape(size, size).double()
    shares = (counts / counts.sum(1, keepdim=True).clamp(min=1)).numpy()
    figure = _figure(5, 4.6)
    axes = figure.subplots()
    axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    axes.set_xlabel("label recognised")
    axes.set_ylabel("label requested")
    if size <= 20:
        axes.set_xticks(range(size))
        axes.set_yticks(range(size))
        for row, column in zip(*np.nonzero(shares >= 0.005), strict=True):
            colour = "white" if shares[row, column] > 0.5 else "#1c2430"
            axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", color=colour, fontsize=7)
    return _png(figure)


def sweep_curves(varied: Sequence[dict[str, Any]], figures: Sequence[Figures], names: Sequence[str]) -> bytes:
    """A PNG with a panel for each of `names`: its value and interval against the first numeric swept key.

    There is one line for each combination of the other swept keys. Raises ValueError if no swept key is numeric.
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
