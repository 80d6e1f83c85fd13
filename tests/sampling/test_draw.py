"""The rows that a `sampling` section describes, and their conditions and file names."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from headrace.errors import DataError, RecipeError
from headrace.recipe import RunRecipe, load_run_recipe
from headrace.sampling.conditions import stack
from headrace.sampling.draw import rows, slug, slugs
from headrace.systems import SampleRequest
from tests.tiny_runs import recipe_of, write_recipe

SHAPE = (3, 16, 16)


def recipe(folder: Path, *overrides: str) -> RunRecipe:
    path = write_recipe(folder / "recipe.yaml", recipe_of(folder / "data", folder / "run"))
    return load_run_recipe(str(path), overrides)


def test_a_row_for_each_prompt_repeated_in_order(tmp_path: Path) -> None:
    found = rows(recipe(tmp_path, "sampling.prompts=[a, b]", "sampling.labels=[4, 5]"), SHAPE)
    assert found.titles == ("a", "b")
    request = found.repeated(2)
    assert request.captions == ["a", "a", "b", "b"]
    assert request.labels is not None
    assert request.labels.tolist() == [4, 4, 5, 5]


def test_a_row_for_each_label_without_prompts(tmp_path: Path) -> None:
    found = rows(recipe(tmp_path, "sampling.prompts=[]", "sampling.labels=[4, 5]"), SHAPE)
    assert found.titles == ["4", "5"]
    assert found.request.captions == [None, None]


def test_an_unconditional_denoiser_needs_no_rows(tmp_path: Path) -> None:
    assert rows(recipe(tmp_path, "sampling=null", "model.text=null"), SHAPE).titles == ["samples"]
    with pytest.raises(RecipeError, match=r"sampling.prompts: found none, expected prompts, or sampling.labels, or"):
        rows(recipe(tmp_path, "sampling=null"), SHAPE)


def test_one_label_for_each_prompt(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"sampling.labels: found 1, expected 2, one for each of sampling.prompts"):
        rows(recipe(tmp_path, "sampling.labels=[4]"), SHAPE)


def test_conditions_come_from_files_or_from_the_examples(tmp_path: Path) -> None:
    files = [str(tmp_path / f"{value}.png") for value in (10, 200)]
    for value, path in zip((10, 200), files, strict=True):
        cv2.imwrite(path, np.full((16, 16), value, np.uint8))
    examples = torch.full((2, 1, 16, 16), 7, dtype=torch.uint8)
    found = stack([files, []], SampleRequest([None, None], conditions=examples), SHAPE)
    assert found.shape == (2, 2, 16, 16)
    assert found[:, :, 0, 0].tolist() == [[10, 7], [200, 7]]
    with pytest.raises(RecipeError, match=r"sampling.conditions: found 2 files, expected 1, one for each row"):
        stack([files], SampleRequest([None]), SHAPE)
    with pytest.raises(RecipeError, match=r"sampling.conditions: found none, expected an image file for each row"):
        stack([[]], SampleRequest([None]), SHAPE)
    with pytest.raises(DataError, match="found a condition of 16×16 pixels, expected 8×8 as the samples"):
        stack([files], SampleRequest([None, None]), (3, 8, 8))


def test_slugs() -> None:
    assert slug("Grüne Scheibe, 2×!") == "grune-scheibe-2"
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("月") == "prompt"
    assert slugs(["a b", "a-b", "月", "日"]) == ["a-b", "a-b-2", "prompt", "prompt-2"]
