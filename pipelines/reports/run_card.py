"""The run part of a report: facts, sample grid, loss and evaluation."""

import json
from dataclasses import dataclass
from pathlib import Path

from headrace.recipe import Recipe
from headrace.reports.evaluation_card import EvaluationCard, read_evaluation
from headrace.reports.figures import loss_curve, running_mean
from headrace.reports.pictures import data_uri


@dataclass(frozen=True)
class RunCard:
    """What the page shows about a run."""

    path: str
    facts: list[tuple[str, str]]
    grid: str | None
    curve: str | None
    loss: str
    sampling: str
    evaluation: EvaluationCard | None
    recipe: str


def read_run(folder: Path, recipe: Recipe) -> RunCard:
    """Read the run in `folder`, which was trained with `recipe`."""
    records = read_metrics(folder / "metrics.jsonl")
    steps = [int(record["step"]) for record in records]
    losses = [float(record["loss"]) for record in records]
    grid = folder / "samples" / "grid.png"
    return RunCard(
        path=str(folder),
        facts=_facts(recipe, records),
        grid=data_uri(grid.read_bytes()) if grid.is_file() else None,
        curve=data_uri(loss_curve(steps, losses)) if records else None,
        loss=_loss_in_words(losses),
        sampling=_sampling_in_words(recipe),
        evaluation=read_evaluation(folder),
        recipe=(folder / "recipe.yaml").read_text(encoding="utf-8"),
    )


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The complete lines of a metrics file, oldest first. Empty if there is no file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _facts(recipe: Recipe, records: list[dict[str, float]]) -> list[tuple[str, str]]:
    facts = [("steps", f"{records[-1]['step']:,}" if records else "none yet")]
    if records:
        facts.append(("samples seen", f"{records[-1]['samples']:,}"))
    if recipe.training:
        facts.append(("planned steps", f"{recipe.training.steps:,}"))
        facts.append(("activation checkpointing", str(recipe.training.activation)))
    if recipe.data:
        facts.append(("batch size", f"{recipe.data.batch_size:,}"))
    return facts


def _loss_in_words(losses: list[float]) -> str:
    if not losses:
        return "No step has been logged yet."
    means = running_mean(losses)
    early = min(len(means) - 1, max(10, round(len(means) * 0.02)) - 1)
    return f"The running mean of the loss went from {means[early]:.4f} near the start to {means[-1]:.4f} at the end."


def _sampling_in_words(recipe: Recipe) -> str:
    if recipe.sampling is None:
        return "not in the recipe"
    s = recipe.sampling
    eta = "" if s.eta is None else f"η = {s.eta:g}, "
    return f"{s.sampler}, {s.steps} steps, {eta}guidance {s.guidance:g}, seed {s.seed}"
