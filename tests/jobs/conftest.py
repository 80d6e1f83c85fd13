"""A tiny dataset and a recipe over it, for the tests that launch commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_runs import recipe_of, write_dataset, write_recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the module, with the dataset `tiny`."""
    folder = tmp_path_factory.mktemp("jobs")
    write_dataset(folder / "tiny")
    return folder


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    """Ten steps with activation checkpointing and TensorBoard, into the folder `run`."""
    return write_recipe(
        folder / "recipe.yaml", recipe_of(folder / "tiny", folder / "run", activation="sqrt", tensorboard=True)
    )
