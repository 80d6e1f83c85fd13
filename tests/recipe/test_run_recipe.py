"""The recipe of a run has every section, and the run's folder keeps those that were given."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from headrace.errors import RecipeError
from headrace.recipe import RunRecipe, load_run_recipe
from headrace.recipe.evaluation import Evaluation
from headrace.recipe.load import RUN_SECTIONS
from headrace.recipe.training import Sampling
from headrace.runs.run_folder import RunFolder
from tests.tiny_runs import recipe_of, write_recipe


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", recipe_of(tmp_path / "data", tmp_path / "run"))


def test_sections_that_are_left_out_get_their_defaults(path: Path) -> None:
    recipe = load_run_recipe(str(path), ["sampling=null"])
    assert recipe.sampling == Sampling()
    assert recipe.evaluation == Evaluation()
    assert recipe.training.steps == 10
    assert load_run_recipe(str(path)).sampling.per_prompt == 2


@pytest.mark.parametrize("section", RUN_SECTIONS)
def test_a_missing_section_is_one_line(path: Path, section: str) -> None:
    with pytest.raises(RecipeError, match=rf"^{path}: {section}: found nothing, expected this section$"):
        load_run_recipe(str(path), [f"{section}=null"])


def test_the_folder_keeps_the_sections_that_were_given(path: Path, tmp_path: Path) -> None:
    dataset = {"source": {"table": "emoji"}, "query": "SELECT 1", "output": {"path": "data"}}
    folder = RunFolder(tmp_path)
    recipe = load_run_recipe(str(path), ["sampling=null", f"dataset={dataset}"])
    folder.write_recipe(recipe)
    written = yaml.safe_load(path.read_text())
    assert set(written) == {*RUN_SECTIONS, "dataset", "spark"}
    assert written["training"]["beta1"] == 0.9
    again = folder.load()
    assert isinstance(again, RunRecipe)
    assert again == recipe
    assert folder.digest(again) == folder.digest(recipe)


def test_the_digest_follows_what_a_runs_numbers_depend_on(path: Path) -> None:
    digests = [
        RunFolder.digest(load_run_recipe(str(path), [override]))
        for override in ("training.keep=2", "training.keep=9", "sampling.seed=9", "training.seed=9")
    ]
    assert digests[0] == digests[1] == digests[2]
    assert digests[0] != digests[3]
