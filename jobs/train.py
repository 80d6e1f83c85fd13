"""Trains a model on a dataset: starts the run that a recipe describes, or continues it."""

import argparse
import sys
from collections.abc import Sequence

from headrace.errors import RecipeError
from headrace.jobs.arguments import Parser, positive
from headrace.jobs.run import run_job
from headrace.recipe import load_run_recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Start the run that a recipe describes, or continue it; returns the exit status.

    Raises SystemExit with status 143 after SIGTERM, once the run is saved.
    """
    return run_job(_train, _parser(), argv)


def _parser() -> Parser:
    parser = Parser(
        "headrace train",
        "Train a model on a dataset: start the run that a recipe describes, or continue it where it stopped.\n"
        "Prints the path of the run's folder. `torchrun jobs/train.py` takes the same arguments; under a scheduler\n"
        "use `python -m headrace.jobs.torchrun` instead, whose exit status is that of the ranks.",
        [
            "headrace train recipes/emoji.yaml",
            "headrace train recipes/emoji.yaml training.steps=3000",
            "headrace train recipes/emoji.yaml --overfit=100",
            "headrace train recipes/emoji.yaml --launcher spark --ranks 2",
        ],
    )
    parser.recipe()
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument("--profile", action="store_true", help="write a trace of a few steps into the run's folder")
    parser.value_after_equals(
        modes,
        "--overfit",
        "STEPS",
        "200",
        positive,
        "instead of the run, train STEPS steps (200 by default) on one batch, and draw the loss in "
        "<training.run>-overfit/",
    )
    parser.value_after_equals(
        modes,
        "--lr-range",
        "STEPS",
        "100",
        positive,
        "instead of the run, raise the learning rate over STEPS steps (100 by default), and draw the loss in "
        "<training.run>-lr-range/",
    )
    parser.add_argument(
        "--launcher",
        metavar="spark",
        type=_spark,
        help="start the ranks as tasks of a Spark cluster, each with the GPU that Spark assigns to its task",
    )
    parser.add_argument("--ranks", metavar="RANKS", type=positive, help="with --launcher: how many ranks to start (1)")
    return parser


def _spark(text: str) -> str:
    if text != "spark":
        raise argparse.ArgumentTypeError(f"found {text!r}, expected spark")
    return text


def _train(arguments: argparse.Namespace) -> None:
    if arguments.ranks is not None and arguments.launcher is None:
        raise RecipeError("argument --ranks: found it without --launcher spark, expected torchrun --nproc-per-node")
    if arguments.launcher is None:
        _train_here(arguments)
        return
    from headrace.jobs.launch_spark import launch

    recipe = load_run_recipe(arguments.recipe, arguments.overrides)
    launch(recipe, main, [arguments.recipe, *arguments.overrides, *_mode(arguments)], arguments.ranks or 1)


def _mode(arguments: argparse.Namespace) -> list[str]:
    """--profile, --overfit or --lr-range as a rank is given it."""
    profile = ["--profile"] if arguments.profile else []
    probes = {"--overfit": arguments.overfit, "--lr-range": arguments.lr_range}
    return [*profile, *(f"{option}={steps}" for option, steps in probes.items() if steps is not None)]


def _train_here(arguments: argparse.Namespace) -> None:
    """Train as one rank, or as the only one, in this process."""
    recipe = load_run_recipe(arguments.recipe, arguments.overrides)
    from headrace.ranks.workers import join  # torch takes seconds to import; a wrong recipe should not
    from headrace.training import probes
    from headrace.training.run import run

    with join() as workers:
        for probe, steps in ((probes.overfit, arguments.overfit), (probes.rate_range, arguments.lr_range)):
            if steps is not None:
                curve = probe(recipe, workers, steps)
                if workers.first:
                    print(f"{curve.summary}\n{curve.picture}")
                return
        folder = run(recipe, workers, profiled=arguments.profile)
        if workers.first:
            print(folder.path)


if __name__ == "__main__":
    sys.exit(main())
