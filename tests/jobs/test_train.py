"""`jobs/train.py` as you launch it: alone, under torchrun, with a rank that dies, with wrong recipes."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml

from headrace.jobs.train import main
from tests.jobs.launched import SECONDS, children, torchrun, wait_for_steps
from tests.tiny_runs import losses, write_dataset, write_recipe


@pytest.fixture(scope="module")
def run(recipe: Path, folder: Path) -> Path:
    """A finished run, trained in this process."""
    assert main([str(recipe)]) == 0
    return folder / "run"


def test_a_run_folder_holds_what_it_should(run: Path) -> None:
    assert {path.name for path in run.iterdir() if not path.name.startswith(".")} == {
        "checkpoints",
        "metrics.jsonl",
        "recipe.yaml",
        "tensorboard",
        "timings.jsonl",
        "tokenizer.json",
    }
    assert [path.name for path in sorted((run / "checkpoints").iterdir())] == ["step-00000008", "step-00000010"]
    assert len(losses(run)) == 10
    assert yaml.safe_load((run / "recipe.yaml").read_text())["data"]["version"] == 2


@pytest.mark.usefixtures("one_thread")
def test_torchrun_on_two_ranks_survives_the_death_of_one(recipe: Path, folder: Path) -> None:
    """With `--max-restarts 1` the group restarts from the last checkpoint, and the record is that of one process."""
    steps = "training.steps=40"  # enough that a rank is killed before the run is done
    again, alone = folder / "elastic", folder / "alone"
    overrides = (f"training.run={again}", "training.checkpoint_every=2", steps)
    process = torchrun(recipe, *overrides, launcher="torch.distributed.run", restarts=1)
    wait_for_steps(process, again, 3)
    os.kill(children(process)[-1], signal.SIGKILL)
    try:
        output, errors = process.communicate(timeout=SECONDS)
    finally:
        process.terminate()
    assert process.returncode == 0, errors
    assert "exitcode: -9" in errors
    assert output.splitlines()[-1] == str(again)
    assert main([str(recipe), f"training.run={alone}", steps]) == 0
    assert losses(again) == pytest.approx(losses(alone), abs=1e-4)


def test_a_run_folder_from_another_recipe_is_left_alone(
    recipe: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main([str(recipe), "training.learning_rate=0.5"]) == 2
    error = capsys.readouterr().err
    assert error == (
        f"headrace: training.learning_rate: found 0.5, expected 0.001 as in {run}/recipe.yaml; "
        "choose another training.run to start another run\n"
    )
    assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}


def test_a_finished_run_is_left_as_it_is(recipe: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file() and path.name[0] != "."}
    capsys.readouterr()
    assert main([str(recipe)]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert capsys.readouterr() == (f"{run}\n", f"{run}: finished at step 10; nothing to do\n")


WRONG = {
    "data.path=nowhere": "data.path: found no dataset at nowhere, expected one that `headrace build` made",
    "data.version=7": "data.version: found 7",
    "data.image=picture": "data.image: found 'picture', expected a column of",
    "data.caption=title": "data.caption: found 'title', expected a column of",
    "data.captions=weighted": "data.weight: found None, expected a column of",
    "model.heads=3": "model: found",
    "training.accumulate=3": "training.accumulate: found 3, expected a divisor of a rank's 8 samples",
    "training.stepz=3": "training.stepz: found an unknown key",
    "training.activation=some": "training.activation: found 'some'",
}


@pytest.mark.parametrize("override", WRONG)
def test_a_wrong_recipe_is_one_line_and_makes_nothing(
    recipe: Path, folder: Path, override: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(recipe), f"training.run={folder / 'wrong'}", override]) == 2
    error = capsys.readouterr().err
    assert WRONG[override] in error
    assert error.count("\n") == 1
    assert not (folder / "wrong").exists()


def test_a_folder_with_other_things_is_left_alone(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main([str(recipe), f"training.run={tmp_path}"]) == 2
    assert "training.run: found thesis.txt in" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_dataset_that_was_made_anew_is_not_the_run_s(recipe: Path, folder: Path, tmp_path: Path) -> None:
    changed = yaml.safe_load(recipe.read_text())
    write_dataset(tmp_path / "data")
    changed["data"]["path"], changed["training"]["run"] = str(tmp_path / "data"), str(tmp_path / "run")
    other = write_recipe(tmp_path / "recipe.yaml", changed)
    assert main([str(other), "training.steps=4"]) == 0
    for path in (tmp_path / "data").glob("**/*.*"):
        path.unlink()
    (tmp_path / "data" / "_delta_log").rmdir()
    write_dataset(tmp_path / "data", images=27)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert main([str(other)]) == 2
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_no_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert capsys.readouterr().err.startswith("headrace: argument RECIPE: found nothing, expected headrace train ")
