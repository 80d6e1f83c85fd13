"""FID and other figures of each family's run on Fashion-MNIST, side by side.

Train the runs, then run `python benchmarks/results_families.py [RUN …]`. Runs that do not exist are left out. Each run
is measured as `headrace evaluate` does, with the `sampling` section of its recipe and the judge of its resolution.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from results_common import cell, table

from headrace.errors import DataError, RecipeError
from headrace.evaluation.evaluate import Evaluated, evaluate
from headrace.jobs.run import exit_status
from headrace.reports.evaluation_card import write_evaluation
from headrace.runs.checkpoints import Checkpoints
from headrace.runs.run_folder import RunFolder

RUNS = {
    "runs/fashion-ddpm": "runs/fashion-judge-16",
    "runs/fashion-smld": "runs/fashion-judge-16",
    "runs/fashion-dit": "runs/fashion-judge",
    "runs/fashion-latent": "runs/fashion-judge",
    "runs/fashion-gan": "runs/fashion-judge",
    "runs/fashion-wgan": "runs/fashion-judge",
    "runs/fashion-r3gan": "runs/fashion-judge",
    "runs/fashion-vqvae": "runs/fashion-judge",
    "runs/fashion-vqgan": "runs/fashion-judge",
    "runs/fashion-kl": "runs/fashion-judge",
    "runs/fashion-prior": "runs/fashion-judge",
    "runs/fashion-lstm": "runs/fashion-judge",
    "runs/fashion-gru": "runs/fashion-judge",
}
"""each run, and the judge of its resolution"""
SHOWN = ("fid", "kid", "precision", "recall", "coverage", "label_agreement", "bits_per_code", "psnr", "ssim")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", default=list(RUNS), help="run folders")
    parser.add_argument("--images", type=int, default=1000, help="images per run")
    parser.add_argument("--quick", action="store_true", help="few images, to check that it works")
    options = parser.parse_args()
    images = 100 if options.quick else options.images
    rows = []
    judges = set()
    for run in options.runs:
        try:
            found, step = measured(run, images)
        except (RecipeError, DataError) as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        (each,) = found.measurements
        judges.add(found.extractor)
        usage = each.counts.get("codebook_usage")
        rows.append(
            [
                f"`{run}`",
                f"{step:,}",
                f"{minutes(run):.0f}",
                *(cell(each.figures[name]) if name in each.figures else "" for name in SHOWN),
                "" if usage is None else f"{100 * usage:.0f} %",
                f"{1e3 * each.seconds_per_image:.3g}",
            ]
        )
    print(
        f"{images:,} images of each run against as many real ones; features of {', '.join(sorted(map(str, judges)))}.\n"
    )
    print(table(["run", "steps", "minutes trained", *SHOWN, "codes used", "ms an image"], rows))


def minutes(run: str) -> float:
    """Minutes of training, from the run's timings."""
    lines = RunFolder(Path(run)).timings.read_text(encoding="utf-8").splitlines()
    return sum(json.loads(line)["seconds"] for line in lines) / 60


def measured(run: str, images: int) -> tuple[Evaluated, int]:
    """Evaluate a run and write the evaluation into its folder. Returns it with the number of steps trained."""
    folder = RunFolder(Path(run))
    judge = RUNS.get(run, "runs/fashion-judge")
    wanted = {"features": judge, "images": images, "label": "label"}
    recipe = folder.load(tuple(f"evaluation.{name}={value}" for name, value in wanted.items()))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = evaluate(folder, recipe, device)
    write_evaluation(folder.path, found, recipe.evaluation.model_dump(mode="json", include={"resamples", "seed"}))
    return found, Checkpoints(folder.checkpoints).all()[-1].step


if __name__ == "__main__":
    sys.exit(exit_status(main))
