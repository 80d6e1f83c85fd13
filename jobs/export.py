"""Writes a run's averaged weights, and the schedule of a denoiser, for other programs to load."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from headrace.errors import RecipeError
from headrace.files import atomic, write_bytes
from headrace.jobs.arguments import Parser
from headrace.jobs.run import run_job

EXPORTED = {"control": "control", "gan": "generator"}
"""the network that is exported, where its name is not `model`"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder and print its path; returns the exit status."""
    return run_job(_export, _parser(), argv)


def _parser() -> Parser:
    parser = Parser(
        "headrace export",
        "Write a run's averaged weights for other programs to load, and print the folder's path.\n"
        "The folder gets model.safetensors (the generator of a GAN, the ControlNet of a ControlNet run), recipe.yaml\n"
        "and, if the network reads captions, tokenizer.json. A denoiser with a linear or cosine schedule also gets\n"
        "scheduler_config.json, which any scheduler of the package diffusers loads.",
        ["headrace export runs/emoji exported/emoji"],
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="the folder to write: empty or new")
    return parser


def _export(arguments: argparse.Namespace) -> None:
    from safetensors.torch import save_file  # torch takes seconds to import; --help should not

    from headrace.recipe.objective import Diffusion
    from headrace.runs import frozen
    from headrace.runs.run_folder import RunFolder
    from headrace.samplers import save_scheduler

    run, folder = RunFolder(arguments.run), arguments.folder
    recipe = run.load()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"argument FOLDER: found something at {folder}, expected an empty folder or none")
    network = EXPORTED.get(recipe.objective.family, "model")
    weights = frozen.averaged(frozen.newest(run, network), network)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic(folder / "model.safetensors") as hidden:
        save_file(weights, hidden)
    for path in (run.recipe, run.tokenizer):
        if path.exists():
            write_bytes(folder / path.name, path.read_bytes())
    if isinstance(recipe.objective, Diffusion) and recipe.objective.schedule in {"linear", "cosine"}:
        save_scheduler(recipe.objective, folder)
    print(folder)


if __name__ == "__main__":
    sys.exit(main())
