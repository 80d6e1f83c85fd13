"""Measure a run: evaluation.json and evaluation/*.png in its folder, shown by `headrace report RUN`.

Usage: headrace evaluate RUN [key=value …]
The keys are those of the recipe's section `evaluation`, and those of other sections with their names, as in
`headrace evaluate runs/fashion-ddpm features=runs/fashion-judge images=1000 'sweep={steps: [10, 20]}' sampling.eta=1`.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.errors import RecipeError
from headrace.jobs.run import exit_status
from headrace.recipe import Recipe

if TYPE_CHECKING:
    from headrace.reports.evaluation_card import EvaluationCard

SECTIONS = ("data", "model", "objective", "training")


def main(argv: Sequence[str] | None = None) -> int:
    """Write the evaluation into a run's folder and print its table; returns the exit status."""
    return exit_status(evaluate, sys.argv[1:] if argv is None else argv)


def evaluate(argv: Sequence[str]) -> None:
    """Measure the run in the folder `argv[0]`; what follows overrides its recipe."""
    if not argv:
        raise RecipeError("argument: found nothing, expected RUN [key=value …]")
    from headrace.runs.run_folder import RunFolder

    folder = RunFolder(Path(argv[0]))
    recipe = folder.load(SECTIONS, _in_sections(argv[1:]))
    import torch  # takes seconds to import; a wrong argument should not

    from headrace.evaluation import evaluate as measuring
    from headrace.recipe.evaluation import Evaluation
    from headrace.reports.evaluation_card import read_evaluation, write_evaluation

    evaluated = measuring.evaluate(folder, recipe, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    settings = (recipe.evaluation or Evaluation()).model_dump(mode="json", include={"resamples", "seed", "tolerance"})
    path = write_evaluation(folder.path, evaluated, settings)
    card = read_evaluation(folder.path)
    assert card is not None
    _print(card)
    print(path)


def _in_sections(overrides: Sequence[str]) -> tuple[str, ...]:
    """Overrides with the name of their section: of `evaluation` where they have none."""
    return tuple(o if o.split("=")[0].split(".")[0] in Recipe.model_fields else f"evaluation.{o}" for o in overrides)


def _print(card: "EvaluationCard") -> None:
    from rich.console import Console
    from rich.table import Table

    for name, value in card.facts:
        print(f"{name}: {value}")
    table = Table(*card.header)
    for row in card.rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


if __name__ == "__main__":
    sys.exit(main())
