"""Train a model on a dataset: start the run that a recipe describes, or go on with it.

Usage: headrace train RECIPE [key.path=value …]
or torchrun jobs/train.py with the same arguments.
"""

import sys
from collections.abc import Sequence

from jobs.run import exit_status
from pipelines.errors import RecipeError
from pipelines.recipe import load_recipe

SECTIONS = ("data", "model", "objective", "training")


def main(argv: Sequence[str] | None = None) -> int:
    """Start the run that a recipe describes, or go on with it; returns the exit status, 143 after SIGTERM."""
    return exit_status(train, sys.argv[1:] if argv is None else argv)


def train(argv: Sequence[str]) -> None:
    """Train by the recipe `argv[0]` with the overrides that follow."""
    if not argv:
        raise RecipeError("argument: found nothing, expected RECIPE [key=value …]")
    recipe = load_recipe(argv[0], argv[1:], SECTIONS)
    from pipelines.training.run import run  # torch takes seconds to import; a wrong recipe should not
    from pipelines.training.workers import join

    with join() as workers:
        folder = run(recipe, workers)
        if workers.first:
            print(folder.path)


if __name__ == "__main__":
    sys.exit(main())
