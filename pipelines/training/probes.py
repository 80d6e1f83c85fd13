"""Two short runs to try before a long one: overfit a single batch, and sweep the learning rate."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from headrace.errors import RecipeError
from headrace.files import atomic, write_text
from headrace.progress import progress
from headrace.ranks.workers import Workers
from headrace.recipe import RunRecipe
from headrace.runs.run_folder import RunFolder
from headrace.training import precision, run, setup
from headrace.training.trainer import Trainer

LOWEST, HIGHEST = 1e-7, 10.0
SMOOTHING, RISE = 0.8, 4.0


@dataclass(frozen=True)
class Curve:
    """The picture of a loss curve over steps or rates, and a one-line summary."""

    picture: Path
    summary: str


def overfit(recipe: RunRecipe, workers: Workers, steps: int) -> Curve:
    """Train on the first batch alone, with the same noise in every step, at the recipe's peak rate.

    A correct network and objective overfit it: the loss falls to a small fraction of its first value. The curve goes to
    `<training.run>-overfit/`; the run's own folder is not touched.
    """
    with _probe(recipe, workers, "overfit") as (folder, trainer, batches):
        batch = next(batches)
        losses = []
        with progress("overfit", steps, shown=workers.first) as bar:
            for _ in range(steps):
                losses.append(float(trainer.step(batch, seen=0, rate=trainer.training.learning_rate).read()["loss"]))
                bar.advance(1, loss=f"{losses[-1]:.4f}")
    summary = f"the loss of one batch went from {losses[0]:.4f} to {losses[-1]:.4f} in {steps} steps"
    return _drawn(folder, "overfit", "step", list(range(1, steps + 1)), losses, summary, workers)


def rate_range(recipe: RunRecipe, workers: Workers, steps: int) -> Curve:
    """Raise the learning rate from 10⁻⁷ to 10 by `steps` equal factors, until the loss explodes (Smith 2017, 3.3).

    A tenth of the rate with the lowest smoothed loss is a good first guess for the peak rate. The curve goes to
    `<training.run>-lr-range/`. Raises RecipeError for fewer than 2 steps.
    """
    if steps < 2:
        raise RecipeError(f"--lr-range: found {steps}, expected at least 2 steps")
    rates: list[float] = []
    losses: list[float] = []
    with _probe(recipe, workers, "lr-range") as (folder, trainer, batches):
        mean, best = 0.0, math.inf
        with progress("lr-range", steps, shown=workers.first) as bar:
            for step in range(steps):
                rate = LOWEST * (HIGHEST / LOWEST) ** (step / (steps - 1))
                loss = float(trainer.step(next(batches), rate=rate).read()["loss"])
                mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
                smooth = mean / (1 - SMOOTHING ** (step + 1))
                if not math.isfinite(smooth) or (step > steps // 10 and smooth > RISE * best):
                    break
                best = min(best, smooth)
                rates.append(rate)
                losses.append(smooth)
                bar.advance(1, rate=f"{rate:.1e}", loss=f"{smooth:.4f}")
    if losses:
        lowest = rates[losses.index(min(losses))]
        summary = f"the loss is lowest at a rate of {lowest:.1e}; try a tenth of it, {lowest / 10:.1e}, as the peak"
    else:
        summary = "the loss is not finite from the first step on"
    return _drawn(folder, "lr-range", "learning rate", rates, losses, summary, workers)


@contextmanager
def _probe(recipe: RunRecipe, workers: Workers, name: str) -> Iterator[tuple[RunFolder, Trainer, Iterator[Any]]]:
    """A folder for the probe, a fresh trainer, and endless batches."""
    path = f"{recipe.training.run.rstrip('/')}-{name}"
    recipe = precision.resolve(recipe.changed("training", run=path), workers)
    system, loader = run.open_run(recipe, workers)
    folder = RunFolder(Path(path))
    with folder.held() if workers.first else nullcontext():
        if workers.first:
            run.prepare(system, folder)
        workers.barrier()
        trainer = setup.trainer(system, folder, workers)
        collate = setup.collator(system, folder, workers)
        batches = iter(loader)
        yield folder, trainer, (collate(raw) for raw in batches)
        batches.close()  # type: ignore[attr-defined]
        workers.barrier()


def _drawn(
    folder: RunFolder, name: str, axis: str, xs: list[Any], losses: list[float], summary: str, workers: Workers
) -> Curve:
    picture = folder.path / f"{name}.png"
    if workers.first:
        write_text(folder.path / f"{name}.json", json.dumps({axis: xs, "loss": losses}))
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot(xlabel=axis, ylabel="loss", title=summary)
        axes.plot(xs, losses)
        if name == "lr-range":
            axes.set_xscale("log")
        elif losses and min(losses) > 0:
            axes.set_yscale("log")
        with atomic(picture) as hidden:
            figure.savefig(hidden, format="png")
    return Curve(picture, summary)
