"""The commands in docs/discrete.md work in their order, with tiny versions of their recipes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from headrace.jobs.cli import main
from tests.tiny_runs import write_dataset, write_recipe

ROOT = Path(__file__).parents[2]
TINY: dict[str, dict[str, Any]] = {
    "classifier": {"channels": 8, "multipliers": [1, 2]},
    "autoencoder": {"channels": 8},
    "prior": {"width": 16, "layers": 1, "heads": 2},
}


def commands() -> list[list[str]]:
    (block,) = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "discrete.md").read_text(encoding="utf-8"), re.DOTALL)
    return [shlex.split(line, comments=True) for line in block.splitlines()]


def tiny(path: Path, folder: Path) -> Path:
    """The recipe at `path` with the tiny dataset, a few steps and a small network."""
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe["data"] |= {"path": str(folder / "tiny"), "where": {}, "batch_size": 8, "image_key": "sample_id"}
    recipe["model"] |= TINY[recipe["model"]["network"]]
    recipe["training"] |= {"steps": 4, "warmup": 1, "checkpoint_every": 2, "precision": "fp32"}
    recipe["training"]["run"] = str(folder / recipe["training"]["run"])
    if "autoencoder" in recipe["objective"]:
        recipe["objective"]["autoencoder"] = str(folder / recipe["objective"]["autoencoder"])
    if recipe["objective"].get("discriminator"):
        recipe["objective"]["discriminator"]["start"] = 2
        recipe["objective"]["perceptual"]["run"] = str(folder / recipe["objective"]["perceptual"]["run"])
    if "sampling" in recipe:
        recipe["sampling"] |= {"labels": [0, 2]} if recipe["sampling"].get("labels") else {"examples": 2}
    if "evaluation" in recipe:
        recipe["evaluation"] |= {
            "features": str(folder / "runs/fashion-judge"),
            "where": {},
            "images": 12,
            "resamples": 2,
        }
    return write_recipe(folder / path.name, recipe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command has run and ended with status 0."""
    folder = tmp_path_factory.mktemp("discrete")
    write_dataset(folder / "tiny")
    for _, job, what, *overrides in commands():
        target = tiny(ROOT / what, folder) if what.startswith("recipes/") else folder / what
        here = [override.replace("=runs/", f"={folder}/runs/") for override in overrides]
        assert main([job, str(target), *here]) == 0, (job, what, overrides)
    return folder / "runs"


def test_every_run_is_there(folder: Path) -> None:
    names = {"judge", "judge-16", "kl", "vqvae", "vqgan", "prior", "lstm", "gru"}
    assert {run.name for run in folder.iterdir()} == {f"fashion-{name}" for name in names}
    for run in folder.iterdir():
        assert len((run / "metrics.jsonl").read_text().splitlines()) == 4


def test_what_was_drawn(folder: Path) -> None:
    assert cv2.imread(str(folder / "fashion-vqgan/samples/sample-0-0.png")).shape == (28, 28, 3)
    assert cv2.imread(str(folder / "fashion-prior/samples/2-7.png")).shape == (28, 56, 3)


def test_what_was_measured(folder: Path) -> None:
    autoencoder, prior = (
        json.dumps(json.loads((folder / run / "evaluation.json").read_text()))
        for run in ("fashion-vqgan", "fashion-prior")
    )
    for name in ("fid", "psnr", "ssim", "codebook_usage", "codebook_perplexity"):
        assert f'"{name}"' in autoencoder
    for name in ("fid", "label_agreement", "bits_per_code"):
        assert f'"{name}"' in prior
