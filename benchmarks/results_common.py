"""What the benchmarks of docs/results.md share: measuring several ways of drawing, tables, plots."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from headrace.evaluation.evaluate import Evaluated, Measurement, Way, evaluate
from headrace.evaluation.resampling import Measured
from headrace.jobs.run import exit_status
from headrace.recipe.training import Sampling
from headrace.runs.run_folder import RunFolder

PICTURES = Path("docs/results")


def arguments(description: str, run: str, images: int) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--run", default=run, help="the run folder")
    parser.add_argument("--features", default=None, help="the judge's run folder, or a TorchScript file")
    parser.add_argument("--images", type=int, default=images, help="images per row; use 10,000 on a GPU")
    parser.add_argument("--reals", type=int, default=5000, help="real images to compare with")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of PyTorch")
    parser.add_argument("--quick", action="store_true", help="few images and few rows, to check that it works")
    return parser


def started(main: Callable[[], None]) -> None:
    """Run a benchmark; an error in its arguments is reported as one line."""
    sys.exit(exit_status(main))


def measure(options: argparse.Namespace, ways: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> Evaluated:
    """Measure the run in each of `ways`, pairs of a label and the keys of `sampling` to set."""
    torch.set_num_threads(options.threads)
    images = 100 if options.quick else options.images
    reals = 200 if options.quick else max(options.reals, images)
    overrides = {"images": images, "reals": reals}
    if options.features is not None:
        overrides["features"] = options.features
    folder = RunFolder(Path(options.run))
    recipe = folder.load(tuple(f"evaluation.{name}={value}" for name, value in overrides.items()))
    plain = recipe.sampling.model_dump()
    each: list[Way] = [(name, Sampling.model_validate(plain | keys)) for name, keys in ways]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    evaluated = evaluate(folder, recipe, device, each)
    print(f"\n{heading(options, evaluated, reals, device)}\n", flush=True)
    return evaluated


def heading(options: argparse.Namespace, evaluated: Evaluated, reals: int, device: torch.device) -> str:
    """One line that says what the figures below it were measured on."""
    threads = "1 thread" if options.threads == 1 else f"{options.threads} threads"
    machine = torch.cuda.get_device_name() if device.type == "cuda" else f"{threads} of a CPU"
    real = evaluated.real.source
    where = ", ".join(f"{name} {value}" for name, value in dict(real["where"]).items())  # type: ignore[call-overload]
    return (
        f"`{options.run}`, {len(evaluated.measurements[0].drawn):,} images a row against {reals:,} of "
        f"{real['path']} ({where}), features of {evaluated.extractor}, on {machine}, torch {torch.__version__}, "
        f"{platform.machine()}."
    )


def cell(figure: Measured) -> str:
    """A figure with half the width of its 95 % interval."""
    return f"{figure.value:.3g} ± {figure.high - figure.value:.2g}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def save(figure: Figure, name: str) -> Path:
    """Save a plot in the folder of pictures of docs/results.md."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.png"
    figure.savefig(path, dpi=100)
    print(f"\nplot: {path}", flush=True)
    return path


def by_name(evaluated: Evaluated) -> dict[str, Measurement]:
    """The measurements by the name of their way."""
    return {str(each.varied["name"]): each for each in evaluated.measurements}
