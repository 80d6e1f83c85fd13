"""`headrace sample RUN [key=value …]`: draw the run's prompts; the keys are those of `sampling` in a recipe."""

import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.run import exit_status
from pipelines.errors import RecipeError
from pipelines.progress import progress

SECTIONS = ("model", "objective", "sampling")


def main(argv: Sequence[str] | None = None) -> int:
    """Write `samples/*.png` and `samples/grid.png` into a run's folder; returns the exit status."""
    return exit_status(sample, sys.argv[1:] if argv is None else argv)


def sample(argv: Sequence[str]) -> None:
    """Draw from the run in the folder `argv[0]`; what follows overrides its `sampling` section."""
    if not argv:
        raise RecipeError("argument: found nothing, expected RUN [key=value …]")
    import torch  # takes seconds to import; a wrong argument should not

    from pipelines.training.grid import write_grid, write_png
    from pipelines.training.run_folder import RunFolder
    from pipelines.training.sampling import Artist, slugs

    folder = RunFolder(Path(argv[0]))
    recipe = folder.load(SECTIONS, _in_section(argv[1:]))
    assert recipe.sampling is not None
    artist = Artist.of(folder, recipe, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    prompts = recipe.sampling.prompts
    with progress("sample", len(prompts) * recipe.sampling.per_prompt, "images") as bar:
        images_PICHW = artist.draw(recipe.sampling, bar.advance)
    folder.samples.mkdir(exist_ok=True)
    for name, images_ICHW in zip(slugs(prompts), images_PICHW, strict=True):
        for number, image_CHW in enumerate(images_ICHW):
            write_png(folder.samples / f"{name}-{number}.png", image_CHW)
    write_grid(folder.samples / "grid.png", prompts, images_PICHW)
    print(folder.samples / "grid.png")


def _in_section(overrides: Sequence[str]) -> tuple[str, ...]:
    """Overrides of the `sampling` section, written with or without its name."""
    return tuple(o if o.startswith("sampling.") else f"sampling.{o}" for o in overrides)


if __name__ == "__main__":
    sys.exit(main())
