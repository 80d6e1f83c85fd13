"""Measures a run: evaluation.json and evaluation/*.png in its folder, shown by `headrace report RUN`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.jobs.arguments import Parser
from headrace.jobs.run import run_job
from headrace.recipe import Recipe

if TYPE_CHECKING:
    from headrace.reports.evaluation_card import EvaluationCard


def main(argv: Sequence[str] | None = None) -> int:
    """Write the evaluation into a run's folder and print its table; returns the exit status."""
    return run_job(_evaluate, _parser(), argv)


def _parser() -> Parser:
    parser = Parser(
        "headrace evaluate",
        "Measure a run: FID and similar figures, and what its family allows: labels, edges, reconstructions.\n"
        "Writes evaluation.json and evaluation/*.png into the run's folder; `headrace report RUN` shows them.",
        [
            "headrace evaluate runs/fashion-ddpm",
            "headrace evaluate runs/fashion-ddpm features=runs/fashion-judge images=1000 sampling.eta=1",
            "headrace evaluate runs/fashion-ddpm 'sweep={steps: [10, 20]}'",
        ],
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")
    parser.overrides(
        "a key of the recipe's section `evaluation` and its value in YAML, as in images=1000; keys of other sections "
        "have the section's name before them, as in sampling.eta=1"
    )
    return parser


def _evaluate(arguments: argparse.Namespace) -> None:
    from headrace.runs.run_folder import RunFolder

    folder = RunFolder(arguments.run)
    recipe = folder.load(_in_sections(arguments.overrides))
    import torch  # takes seconds to import; --help should not

    from headrace.evaluation import evaluate as measuring
    from headrace.reports.evaluation_card import read_evaluation, write_evaluation

    evaluated = measuring.evaluate(folder, recipe, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    settings = recipe.evaluation.model_dump(mode="json", include={"resamples", "seed", "tolerance"})
    path = write_evaluation(folder.path, evaluated, settings)
    card = read_evaluation(folder.path)
    assert card is not None
    _print(card)
    print(path)


def _in_sections(overrides: Sequence[str]) -> tuple[str, ...]:
    """Overrides with the name of their section, which is `evaluation` where they name none."""
    return tuple(o if o.split("=")[0].split(".")[0] in Recipe.model_fields else f"evaluation.{o}" for o in overrides)


def _print(card: EvaluationCard) -> None:
    from headrace.jobs.table import print_table, table

    for name, value in card.facts:
        print(f"{name}: {value}")
    print_table(table(card.rows, card.header))


if __name__ == "__main__":
    sys.exit(main())
