"""`training.precision: auto`: what it becomes, and that a run keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from torch import Tensor

from headrace.jobs.train import main
from headrace.ranks.workers import Workers
from headrace.recipe import load_run_recipe
from headrace.training import precision
from tests.tiny_runs import losses, recipe_of, write_recipe

CPU = torch.device("cpu")


@pytest.fixture
def recipe(dataset: Path, tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "recipe.yaml", recipe_of(dataset, tmp_path / "run", steps=4, precision="auto"))


def of_run(run: Path) -> str:
    return yaml.safe_load((run / "recipe.yaml").read_text())["training"]["precision"]


def test_auto_is_the_default(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "data", tmp_path / "run")
    del recipe["training"]["precision"]
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    assert load_run_recipe(str(path)).training.precision == "auto"


def test_a_run_goes_on_in_the_precision_that_it_started_in(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run started where bf16 is native and resumed where it is not has the same losses as one in one go."""
    run, whole = tmp_path / "run", tmp_path / "whole"
    monkeypatch.setattr(precision, "native_bf16", lambda device: True)
    assert main([str(recipe), f"training.run={whole}"]) == 0
    assert main([str(recipe), "training.steps=2"]) == 0
    assert of_run(run) == of_run(whole) == "bf16"
    assert f"{run}: training in bf16\n" in capsys.readouterr().err
    monkeypatch.setattr(precision, "native_bf16", lambda device: False)
    assert main([str(recipe)]) == 0
    assert f"{run}: training in bf16\n" in capsys.readouterr().err
    assert of_run(run) == "bf16"
    assert losses(run) == losses(whole)
    assert main([str(recipe), "training.precision=fp32"]) == 2
    assert "training.precision: found 'fp32', expected 'bf16' as in" in capsys.readouterr().err
    assert main([str(recipe), f"training.run={tmp_path / 'other'}"]) == 0
    assert of_run(tmp_path / "other") == "fp32"
    assert losses(tmp_path / "other") != losses(whole)


def test_probes_resolve_it_too(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda device: True)
    assert main([str(recipe), "--overfit=1"]) == 0
    assert of_run(tmp_path / "run-overfit") == "bf16"


class Ranks(Workers):
    """The first of two ranks; the other one has no native bf16."""

    def mean(self, figures: Tensor) -> Tensor:
        return figures / 2


@pytest.mark.parametrize(("workers", "chosen"), [(Workers(0, 1, CPU), "bf16"), (Ranks(0, 2, CPU), "fp32")])
def test_all_ranks_have_what_each_has_natively(
    recipe: Path, workers: Workers, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda device: True)
    assert precision.resolve(load_run_recipe(str(recipe)), workers).training.precision == chosen


def test_a_precision_that_is_named_stays(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_bf16", lambda device: pytest.fail("nobody needs to know"))
    for named in ("fp32", "bf16", "fp16"):
        whole = load_run_recipe(str(recipe), [f"training.precision={named}"])
        assert precision.resolve(whole, Workers(0, 1, CPU)) == whole


@pytest.mark.parametrize("query", precision.X86)
def test_what_a_cpu_is_asked(query: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch has the queries, and a positive answer to one of them is enough."""
    monkeypatch.setattr(precision.platform, "machine", lambda: "x86_64")
    for each in precision.X86:
        assert hasattr(torch.cpu, each)
        monkeypatch.setattr(torch.cpu, each, lambda: False)
    assert not precision.native_bf16(CPU)
    monkeypatch.setattr(torch.cpu, query, lambda: True)
    assert precision.native_bf16(CPU)


@pytest.mark.parametrize("native", [True, False])
def test_what_a_gpu_is_asked(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: asked.append(options) or native)
    assert precision.native_bf16(torch.device("cuda")) == native
    assert asked == [{"including_emulation": False}]
