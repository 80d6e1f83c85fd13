"""Loss curves as pictures."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

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
