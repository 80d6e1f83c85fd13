"""Runs that other runs are built on: each command reads the YAML of a base once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from headrace.errors import DataError, RecipeError
from headrace.jobs.sample import main as sample
from headrace.jobs.train import main as train
from headrace.recipe import RunRecipe, load_run_recipe
from headrace.runs.frozen import base_run
from headrace.runs.run_folder import RunFolder
from headrace.systems import system_for
from tests.tiny_runs import recipe_of, write_recipe

UNET = {"resolution": 4, "image_channels": 2, "channels": 8, "multipliers": [1], "blocks": 1, "attention": [0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("base_runs")


def recipe_for(name: str, dataset: Path, folder: Path) -> dict[str, Any]:
    """An autoencoder, a U-Net of its latents, and a ControlNet of the U-Net."""
    recipe = recipe_of(dataset, folder / name, steps=2, sample_every=2)
    recipe["data"] |= {"caption": None, "condition": "condition"}
    recipe["sampling"] = {"examples": 2, "steps": 2, "per_prompt": 1}
    if name == "autoencoder":
        bottleneck = {"kind": "kl", "channels": 2}
        recipe["model"] = {"network": "autoencoder", "resolution": 16, "channels": 8, "bottleneck": bottleneck}
        recipe["objective"] = {"family": "autoencoder"}
    elif name == "latent":
        autoencoder = str(folder / "autoencoder")
        recipe["model"] = UNET | {"patch": 1, "heads": 2, "text": None, "autoencoder": autoencoder}
    else:
        recipe["model"] = {"network": "controlnet", "base": str(folder / "latent")}
        recipe["objective"] = {"family": "control"}
    return recipe


@pytest.fixture(scope="module")
def runs(dataset: Path, folder: Path) -> dict[str, Path]:
    """Recipes of the three runs, trained in turn."""
    paths = {}
    for name in ("autoencoder", "latent", "control"):
        paths[name] = write_recipe(folder / f"{name}.yaml", recipe_for(name, dataset, folder))
        assert train([str(paths[name])]) == 0
    return paths


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the recipe of each run folder has been read, by the folder's name."""
    counts: Counter[str] = Counter()

    def counted(path: str, overrides: tuple[str, ...] = ()) -> RunRecipe:
        counts[Path(path).parent.name] += 1
        return load_run_recipe(path, overrides)

    monkeypatch.setattr("headrace.runs.run_folder.load_run_recipe", counted)
    return counts


@pytest.mark.parametrize(
    ("name", "bases"), [("latent", {"autoencoder": 1}), ("control", {"latent": 1, "autoencoder": 1})]
)
def test_training_and_sampling_read_each_base_once(
    name: str, bases: dict[str, int], runs: dict[str, Path], folder: Path, reads: Counter[str], tmp_path: Path
) -> None:
    """Training checks the recipe, builds networks, and draws a grid: three uses of the base."""
    assert train([str(runs[name]), f"training.run={tmp_path / 'fresh'}"]) == 0
    assert reads == bases
    reads.clear()
    assert sample([str(folder / name)]) == 0
    assert reads == {name: 1, **bases}


def test_checks_are_apart_from_the_shape_of_images(runs: dict[str, Path]) -> None:
    """A recipe that fails its checks still has an image shape."""
    for change, line in (("model.image_channels=3", "model.image_channels"), ("sampling.sampler=none", "sampler")):
        system = system_for(load_run_recipe(str(runs["latent"]), [change]))
        assert system.image_shape == (3, 16, 16)
        with pytest.raises(RecipeError, match=line):
            system.check()
    system = system_for(load_run_recipe(str(runs["control"]), ["data.condition=null"]))
    assert system.image_shape == (3, 16, 16)
    with pytest.raises(RecipeError, match=r"data.condition: found nothing"):
        system.check()


def test_a_base_without_a_checkpoint_is_named_by_its_key(runs: dict[str, Path], tmp_path: Path) -> None:
    recipe = load_run_recipe(str(runs["autoencoder"]))
    RunFolder(tmp_path).write_recipe(recipe)
    with pytest.raises(DataError, match=r"^model.autoencoder: .* found no checkpoint"):
        base_run(str(tmp_path), "model.autoencoder").newest()
