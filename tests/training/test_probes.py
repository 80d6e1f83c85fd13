"""The commands that overfit one batch and sweep the learning rate."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from headrace.jobs.train import main
from tests.tiny_runs import recipe_of, write_recipe


@pytest.fixture(scope="module")
def recipe(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("probes")
    return write_recipe(folder / "recipe.yaml", recipe_of(dataset, folder / "run", learning_rate=5e-3))


def test_one_batch_is_overfit(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two probes are equal, the loss falls to a small fraction, and the run's own folder is not created."""
    assert main([str(recipe), "--overfit=60"]) == 0
    run = recipe.parent / "run-overfit"
    losses = json.loads((run / "overfit.json").read_text())["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert (run / "overfit.png").read_bytes().startswith(b"\x89PNG")
    assert f"to {losses[-1]:.4f} in 60 steps" in capsys.readouterr().out
    assert main([str(recipe), "--overfit=3"]) == 0
    assert json.loads((run / "overfit.json").read_text())["loss"] == losses[:3]
    assert not (recipe.parent / "run").exists()


def test_a_range_of_rates_ends_where_the_loss_explodes(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(recipe), "--lr-range=40"]) == 0
    run = recipe.parent / "run-lr-range"
    found = json.loads((run / "lr-range.json").read_text())
    rates = found["learning rate"]
    assert rates[0] == pytest.approx(1e-7)
    assert all(b / a == pytest.approx((1e8) ** (1 / 39)) for a, b in itertools.pairwise(rates))
    assert (run / "lr-range.png").read_bytes().startswith(b"\x89PNG")
    said = capsys.readouterr().out
    best = float(said.split("at a rate of ")[1].split(";")[0])
    assert 1e-4 < best < 1
    assert found["loss"][-1] > min(found["loss"])


WRONG = {
    "--overfit=none": "argument --overfit: found 'none', expected a whole number from 1",
    "--lr-range=1": "--lr-range: found 1, expected at least 2 steps",
    "--fast": "argument: found '--fast', expected headrace train [-h] [--profile | --overfit[=STEPS] | ",
    "--launcher=slurm": "argument --launcher: found 'slurm', expected spark",
    "--ranks=2": "argument --ranks: found it without --launcher spark",
}


@pytest.mark.parametrize("option", WRONG)
def test_a_wrong_option_is_one_line(recipe: Path, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(recipe), option]) == 2
    error = capsys.readouterr().err
    assert WRONG[option] in error
    assert error.count("\n") == 1


def test_options_that_exclude_each_other(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(recipe), "--overfit", "--profile"]) == 2
    assert "argument --profile: found it together with --overfit, expected one of them" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert all(f"--{option}" in said for option in ("profile", "overfit", "lr-range", "launcher", "ranks"))
