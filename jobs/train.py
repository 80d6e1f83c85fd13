"""Train a model on a dataset: start the run that a recipe describes, or go on with it.

Usage: headrace train RECIPE [key.path=value …] [--profile | --overfit[=STEPS] | --lr-range[=STEPS]]
                      [--launcher spark --ranks RANKS]
or torchrun jobs/train.py with the same arguments; under a scheduler rather
python -m headrace.jobs.torchrun, whose exit status is that of the ranks.

--profile            writes a trace of a few steps into the run's folder
--overfit[=STEPS]    instead of the run, trains 200 steps on one batch; the loss is drawn in <training.run>-overfit/
--lr-range[=STEPS]   instead of the run, raises the learning rate in 100 steps; drawn in <training.run>-lr-range/
--launcher spark     starts RANKS processes as tasks of a Spark cluster, each with the GPU that Spark gives it
"""

import sys
from collections.abc import Sequence

from headrace.errors import RecipeError
from headrace.jobs.run import exit_status
from headrace.recipe import Recipe, load_recipe

SECTIONS = ("data", "model", "objective", "training")
DEFAULTS = {"profile": "", "overfit": "200", "lr-range": "100", "launcher": None, "ranks": None}
"""the options, and what they are without a value; None: they need one"""
ALONE = ("profile", "overfit", "lr-range")


def main(argv: Sequence[str] | None = None) -> int:
    """Start the run that a recipe describes, or go on with it; returns the exit status, 143 after SIGTERM."""
    return exit_status(train, sys.argv[1:] if argv is None else argv)


def train(argv: Sequence[str]) -> None:
    """Train by the recipe that `argv` names first, with its overrides and options."""
    arguments, options = _split(argv)
    if not arguments:
        raise RecipeError("argument: found nothing, expected RECIPE [key=value …]")
    recipe = load_recipe(arguments[0], arguments[1:], SECTIONS)
    if "launcher" in options:
        from headrace.jobs.launch_spark import launch

        passed = [f"--{name}={value}" if value else f"--{name}" for name, value in options.items() if name in ALONE]
        launch(recipe, [*arguments, *passed], _number("ranks", options.get("ranks", "1")))
        return
    _train(recipe, options)


def _train(recipe: Recipe, options: dict[str, str]) -> None:
    from headrace.ranks.workers import join
    from headrace.training import probes
    from headrace.training.run import run

    with join() as workers:
        for name, probe in (("overfit", probes.overfit), ("lr-range", probes.rate_range)):
            if name in options:
                curve = probe(recipe, workers, _number(name, options[name]))
                if workers.first:
                    print(f"{curve.says}\n{curve.picture}")
                return
        folder = run(recipe, workers, profiled="profile" in options)
        if workers.first:
            print(folder.path)


def _split(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Arguments, and options by name. Raises RecipeError for options that are not there or not together."""
    arguments: list[str] = []
    options: dict[str, str] = {}
    rest = iter(argv)
    for argument in rest:
        name, equals, value = argument.removeprefix("--").partition("=")
        if not argument.startswith("--"):
            arguments.append(argument)
        elif name not in DEFAULTS:
            raise RecipeError(f"arguments: found {argument!r}, expected --{', --'.join(DEFAULTS)}")
        else:
            default = DEFAULTS[name]
            options[name] = value if equals else next(rest, "") if default is None else default
    if options.get("launcher", "spark") != "spark":
        raise RecipeError(f"--launcher: found {options['launcher']!r}, expected spark")
    if "ranks" in options and "launcher" not in options:
        raise RecipeError("--ranks: found it without --launcher spark, expected torchrun --nproc-per-node for ranks")
    together = [f"--{name}" for name in ALONE if name in options]
    if len(together) > 1:
        raise RecipeError(f"arguments: found {' and '.join(together)}, expected one of them")
    return arguments, options


def _number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise RecipeError(f"--{name}: found {text!r}, expected a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
