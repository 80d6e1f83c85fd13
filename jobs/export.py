"""Write a run's averaged weights, and the schedule of a denoiser, for other programs to load.

Usage: headrace export RUN FOLDER
The folder gets model.safetensors (of a GAN its generator, of a ControlNet run the ControlNet), recipe.yaml and, if
captions are read, tokenizer.json; for a denoiser with a linear or cosine schedule also scheduler_config.json, which any
scheduler of the package diffusers loads.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from headrace.errors import RecipeError
from headrace.jobs.run import exit_status

EXPORTED = {"control": "control", "gan": "generator"}
"""the network that is exported, where it is not called model"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the folder and print where it is; returns the exit status."""
    return exit_status(export, sys.argv[1:] if argv is None else argv)


def export(argv: Sequence[str]) -> None:
    """Export the run in the folder `argv[0]` to the folder `argv[1]`, which is made."""
    if len(argv) != 2:
        raise RecipeError(f"arguments: found {len(argv)}, expected two: RUN FOLDER")
    from safetensors.torch import save_file  # torch takes seconds to import; a wrong argument should not

    from headrace.recipe.objective import Diffusion
    from headrace.runs import frozen
    from headrace.runs.run_folder import RunFolder
    from headrace.samplers import save_scheduler

    run, folder = RunFolder(Path(argv[0])), Path(argv[1])
    recipe = run.load(("model", "objective"))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"argument: found something at {folder}, expected an empty folder or none")
    assert recipe.objective is not None
    weights = frozen.averaged(run, EXPORTED.get(recipe.objective.family, "model"))
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights, folder / "model.safetensors")
    for path in (run.recipe, run.tokenizer):
        if path.exists():
            shutil.copyfile(path, folder / path.name)
    if isinstance(recipe.objective, Diffusion) and recipe.objective.schedule in {"linear", "cosine"}:
        save_scheduler(recipe.objective, folder)
    print(folder)


if __name__ == "__main__":
    sys.exit(main())
