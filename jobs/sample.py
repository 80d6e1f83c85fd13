"""Draws images from a run: samples/*.png and samples/grid.png in its folder."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from headrace.jobs.arguments import Parser
from headrace.jobs.run import run_job


def main(argv: Sequence[str] | None = None) -> int:
    """Write `samples/*.png` and `samples/grid.png` into a run's folder; returns the exit status."""
    return run_job(_sample, _parser(), argv)


def _parser() -> Parser:
    parser = Parser(
        "headrace sample",
        "Draw images from a run: samples/*.png and samples/grid.png in its folder. Prints the path of the grid.",
        [
            "headrace sample runs/emoji",
            "headrace sample runs/emoji steps=50 guidance=2 'prompts=[red heart, banana]'",
            "headrace sample runs/fashion-gan 'labels=[3, 9]' per_prompt=16",
        ],
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the folder of a run")
    parser.overrides("a key of the recipe's section `sampling` and its value in YAML, as in steps=50")
    return parser


def _sample(arguments: argparse.Namespace) -> None:
    import torch  # takes seconds to import; --help should not

    from headrace.progress import progress
    from headrace.runs.run_folder import RunFolder
    from headrace.sampling.draw import draw, rows, slugs
    from headrace.sampling.grid import write_grid, write_png
    from headrace.systems import system_for

    folder = RunFolder(arguments.run)
    recipe = folder.load(_in_section(arguments.overrides))
    system, sampling = system_for(recipe), recipe.sampling
    request = rows(recipe, system.image_shape)
    image_generator = system.image_generator(folder, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    with progress("sample", len(request.titles) * sampling.per_prompt, "images") as bar:
        images_NCHW = draw(image_generator, request.repeated(sampling.per_prompt), sampling, bar.advance)
    images_PICHW = images_NCHW.unflatten(0, (len(request.titles), sampling.per_prompt))
    folder.samples.mkdir(exist_ok=True)
    for name, images_ICHW in zip(slugs(request.titles), images_PICHW, strict=True):
        for number, image_CHW in enumerate(images_ICHW):
            write_png(folder.samples / f"{name}-{number}.png", image_CHW)
    write_grid(folder.samples / "grid.png", request.titles, images_PICHW)
    print(folder.samples / "grid.png")


def _in_section(overrides: Sequence[str]) -> tuple[str, ...]:
    """Overrides of the `sampling` section, written with or without its name."""
    return tuple(o if o.startswith("sampling.") else f"sampling.{o}" for o in overrides)


if __name__ == "__main__":
    sys.exit(main())
