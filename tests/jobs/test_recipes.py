"""The recipes of denoisers, whole but made tiny: trained, resumed and sampled by the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
import yaml

from headrace.jobs.sample import main as sample
from headrace.jobs.train import main as train
from tests.tiny_runs import losses, write_dataset, write_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
TINY: dict[str, dict[str, Any]] = {
    "fashion-ddpm": {"channels": 8},
    "fashion-smld": {"channels": 8},
    "fashion-dit": {"width": 24, "layers": 1},
    "fashion-classifier": {"channels": 8},
    "fashion-control": {},
    "fashion-kl": {"channels": 8},
    "fashion-latent": {"channels": 8, "text": {"vocabulary": 300, "length": 8, "width": 16, "layers": 1, "heads": 2}},
}
"""in an order in which each follows those that it is built on"""
SAMPLED = {
    "fashion-ddpm": ["labels=[1]", "guidance=0", "classifier={runs}/fashion-classifier"],
    "fashion-smld": [],
    "fashion-dit": ["labels=[0, 2]"],
    "fashion-control": ["examples=2"],
    "fashion-kl": ["examples=2"],
    "fashion-latent": ["prompts=[a bag]"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs, all trained for two steps and gone on with for one more."""
    folder = tmp_path_factory.mktemp("recipes")
    write_dataset(folder / "tiny")
    for name, model in TINY.items():
        recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
        path = write_recipe(folder / f"{name}.yaml", _tiny(recipe, model, folder))
        assert train([str(path), "training.steps=2"]) == 0
        assert train([str(path)]) == 0
    return folder / "runs"


def _tiny(recipe: dict[str, Any], model: dict[str, Any], folder: Path) -> dict[str, Any]:
    recipe["data"] |= {"path": str(folder / "tiny"), "where": {}, "batch_size": 8, "captions": "all"}
    recipe["data"].pop("image_key", None)
    recipe["model"] |= model
    for key in ("base", "autoencoder"):
        if key in recipe["model"]:
            recipe["model"][key] = str(folder / recipe["model"][key])
    recipe["training"] |= {"run": str(folder / recipe["training"]["run"]), "steps": 3, "checkpoint_every": 2}
    return recipe


@pytest.mark.parametrize("name", TINY)
def test_it_trains_and_goes_on(name: str, runs: Path) -> None:
    assert len(losses(runs / name)) == 3
    assert [path.name for path in sorted((runs / name / "checkpoints").iterdir())] == ["step-00000002", "step-00000003"]


@pytest.mark.parametrize("name", SAMPLED)
def test_it_samples(name: str, runs: Path) -> None:
    overrides = [override.format(runs=runs) if "{runs}" in override else override for override in SAMPLED[name]]
    assert sample([str(runs / name), "steps=3", "per_prompt=2", *overrides]) == 0
    assert (runs / name / "samples" / "grid.png").stat().st_size > 0


def test_latents_of_a_codebook_are_denoised_and_controlled(runs: Path) -> None:
    """A VQ-VAE's latents in the place of a KL autoencoder's, and a ControlNet over the denoiser of them."""
    folder = runs.parent
    bottleneck = {"kind": "vq", "codes": 16, "channels": 8}
    chain: dict[str, tuple[str, dict[str, Any]]] = {
        "vq": ("fashion-vqvae", {"channels": 8, "bottleneck": bottleneck}),
        "vq-latent": ("fashion-latent", TINY["fashion-latent"] | {"autoencoder": "runs/vq", "image_channels": 8}),
        "vq-control": ("fashion-control", {"base": "runs/vq-latent"}),
    }
    for name, (of, model) in chain.items():
        recipe = yaml.safe_load((RECIPES / f"{of}.yaml").read_text())
        recipe["training"]["run"] = f"runs/{name}"
        if "base" in model:
            recipe["data"] |= {"caption": "caption", "label": None}
        recipe = _tiny(recipe, model, folder)
        assert train([str(write_recipe(folder / f"{name}.yaml", recipe))]) == 0
        assert len(losses(runs / name)) == 3
    for name, overrides in {"vq-latent": ["prompts=[a bag]"], "vq-control": ["examples=2"]}.items():
        assert sample([str(runs / name), "steps=3", "per_prompt=2", *overrides]) == 0
        drawn = [path for path in (runs / name / "samples").glob("*.png") if path.name != "grid.png"]
        assert {cv2.imread(str(path)).shape for path in drawn} == {(28, 28, 3)}


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("guidance=.inf", "sampling.guidance: found inf"),
        ("churn=.inf", "sampling.churn: found inf"),
        ("guided_from=.nan", "sampling.guided_from: found nan"),
        ("guidance=1e38", "sampling: found images of values that are no finite numbers, expected milder settings"),
        ("guided_from=5 guided_to=1", "expected guided_from below guided_to, 1"),
    ],
)
def test_settings_that_draw_nothing(override: str, line: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = [str(runs / "fashion-ddpm"), "steps=3", "per_prompt=1", "labels=[1]", *override.split()]
    assert sample(request) == 2
    assert line in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "override", "line"),
    [
        ("fashion-ddpm", "model.labels=1", "headrace: data.label: found [1"),
        ("fashion-classifier", "model.labels=2", "headrace: data.label: found [2"),
        ("fashion-ddpm", "data.label=caption", "headrace: data.label: found a column 'caption' of text"),
    ],
)
def test_labels_that_the_model_does_not_know(
    name: str, override: str, line: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = runs.parent / f"{name}.yaml"
    assert train([str(recipe), f"training.run={tmp_path}/run", override]) == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith(line)
