"""What a run does besides its steps: evaluations, grids, TensorBoard, traces, the best checkpoint, broken batches."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from deltalake import write_deltalake
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from headrace.activation.meter import peak_bytes
from headrace.errors import RecipeError
from headrace.jobs.train import main
from headrace.ranks.workers import Workers
from headrace.recipe import load_run_recipe
from headrace.runs import data
from headrace.runs.checkpoints import Checkpoints
from headrace.runs.run_folder import RunFolder
from headrace.systems import system_for
from headrace.training import memory, setup, validation
from headrace.training.gallery import Gallery
from headrace.training.run import open_run
from headrace.training.trainer import Trainer
from tests.tiny_runs import recipe_of, write_recipe

SINGLE = Workers(0, 1, torch.device("cpu"))
WATCHED = {"evaluate_every": 3, "evaluate_samples": 16, "sample_every": 5, "tensorboard": True, "accumulate": 2}


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def recipe(dataset: Path, folder: Path) -> Path:
    """A recipe with three steps per epoch and parts of half a batch."""
    return write_recipe(folder / "recipe.yaml", recipe_of(dataset, folder / "whole", **WATCHED))


@pytest.fixture(scope="module")
def whole(recipe: Path) -> Path:
    assert main([str(recipe)]) == 0
    return recipe.parent / "whole"


def test_evaluations_stand_with_the_figures_of_their_step(whole: Path) -> None:
    found = lines(whole)
    assert [line["step"] for line in found if "evaluation/loss" in line] == [3, 6, 9, 10]
    assert [line["step"] for line in found] == list(range(1, 11))
    assert all(0 < line["evaluation/loss"] < 10 for line in found if "evaluation/loss" in line)


def test_grids_are_pictures_of_every_prompt(whole: Path) -> None:
    assert sorted(path.name for path in (whole / "samples").iterdir()) == ["step-00000005.png", "step-00000010.png"]
    picture = cv2.imread(str(whole / "samples" / "step-00000010.png"))
    assert picture.shape == (200, 400, 3)  # two rows of two, labels beside them
    assert picture[5:95, 205:295].std() > 1  # within the first image


def test_tensorboard_reads_the_figures_and_the_grids(whole: Path) -> None:
    events = EventAccumulator(str(whole / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    loss = {event.step: event.value for event in events.Scalars("loss")}
    assert loss == {line["step"]: pytest.approx(line["loss"], rel=1e-6) for line in lines(whole)}
    assert [event.step for event in events.Scalars("evaluation/loss")] == [3, 6, 9, 10]
    assert [event.step for event in events.Images("samples")] == [5, 10]


def test_going_on_within_a_later_epoch_in_parts_is_exact(whole: Path, recipe: Path) -> None:
    """Step 5 is in the second epoch. Evaluations and grids do not affect what follows."""
    run = recipe.parent / "halves"
    assert main([str(recipe), f"training.run={run}", "training.steps=5"]) == 0
    assert main([str(recipe), f"training.run={run}"]) == 0
    ours, theirs = lines(run), lines(whole)
    last = ours[4].pop("evaluation/loss")  # it was the last step of the first go
    assert last > 0
    assert ours == theirs
    newest, expected = (Checkpoints(path / "checkpoints").newest() for path in (run, whole))
    assert newest is not None
    assert expected is not None
    for group in ("model", "model.ema", "model.optimizer"):
        found = newest.tensors(group)
        assert all(torch.equal(found[name], value) for name, value in expected.tensors(group).items())


def test_evaluations_do_not_change_training(whole: Path, recipe: Path) -> None:
    run = recipe.parent / "plain"
    assert main([str(recipe), f"training.run={run}", "training.evaluate_every=null", "training.sample_every=null"]) == 0
    plain = [{n: v for n, v in line.items() if not n.startswith("evaluation")} for line in lines(whole)]
    assert lines(run) == plain


def test_tensorboard_shows_steps_once_that_were_done_twice(recipe: Path) -> None:
    run = recipe.parent / "twice"
    assert main([str(recipe), f"training.run={run}", "training.steps=4"]) == 0
    assert main([str(recipe), f"training.run={run}", "training.steps=8"]) == 0
    newest = Checkpoints(run / "checkpoints").all()[-1]
    assert newest.step == 8
    (newest.path / "state.json").unlink()  # steps 5 to 8 are repeated
    assert main([str(recipe), f"training.run={run}", "training.steps=8"]) == 0
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 9))


def test_a_checkpoint_knows_the_last_evaluation_before_it(whole: Path) -> None:
    found = Checkpoints(whole / "checkpoints").all()
    assert found
    evaluations = {line["step"]: line["evaluation/loss"] for line in lines(whole) if "evaluation/loss" in line}
    for checkpoint in found:
        earlier = [loss for step, loss in evaluations.items() if step <= checkpoint.step]
        assert checkpoint.metric() == earlier[-1]


def trainer_of(recipe: Path, folder: Path, *overrides: str) -> tuple[Trainer, validation.Validation]:
    system, _ = open_run(load_run_recipe(str(recipe), overrides), SINGLE)
    run_folder = RunFolder(folder)
    trainer = setup.trainer(system, run_folder, SINGLE)
    batches = validation.loader(system, trainer.part, SINGLE)
    return trainer, validation.Validation(trainer, batches, setup.collator(system, run_folder, SINGLE))


def test_evaluation_is_of_averaged_weights_and_always_the_same(recipe: Path, whole: Path) -> None:
    trainer, evaluation = trainer_of(recipe, whole)
    first = evaluation.figures()
    assert first == evaluation.figures()
    network = trainer.networks["model"]
    with torch.no_grad():
        for parameter in network.module.parameters():
            parameter.add_(1.0)
    assert evaluation.figures() == first
    assert all(module.training for module in network.module.modules())
    for average in network.ema.averages.values():
        average.add_(1.0)
    assert evaluation.figures() != first


def test_evaluation_and_grids_work_in_bounded_batches(recipe: Path, whole: Path) -> None:
    """However many samples are requested, they take the memory of one part of a training step."""
    few, many = (trainer_of(recipe, whole, f"training.evaluate_samples={count}")[1] for count in (4, 24))
    peaks = [peak_bytes(evaluation.figures) for evaluation in (few, many)]
    assert peaks[1] < 1.5 * peaks[0]
    system = system_for(RunFolder(whole).load(("sampling.per_prompt=12",)))
    one, all_at_once = (Gallery(system, RunFolder(whole), torch.device("cpu"), most) for most in (1, 24))
    small, large = peak_bytes(lambda: one.draw(1)), peak_bytes(lambda: all_at_once.draw(2))
    assert small < 0.5 * large
    pictures = [cv2.imread(str(whole / "samples" / f"step-0000000{step}.png")) for step in (1, 2)]
    # the number drawn at once affects only rounding
    assert np.abs(pictures[0].astype(int) - pictures[1].astype(int)).mean() < 0.1
    for step in (1, 2):
        (whole / "samples" / f"step-0000000{step}.png").unlink()


@pytest.mark.slow
def test_a_trace_of_a_few_steps(recipe: Path) -> None:
    run = recipe.parent / "traced"
    overrides = (f"training.run={run}", "training.evaluate_every=null", "training.sample_every=null")
    assert main([str(recipe), *overrides, "--profile"]) == 0
    trace = json.loads((run / "profile" / "rank-0.json").read_text())
    steps = {event["name"] for event in trace["traceEvents"] if str(event.get("name", "")).startswith("ProfilerStep")}
    assert len(steps) == 3
    assert "aten::" in (run / "profile" / "rank-0.txt").read_text()


def poison(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Put a NaN into the batches of the given steps, as a broken file or an overflow would."""
    collate = data.Collator.__call__
    count = 0

    def poisoned(self: data.Collator, raw: dict[str, Any]) -> dict[str, torch.Tensor]:
        nonlocal count
        count += 1
        batch = collate(self, raw)
        if count in steps:
            batch["image"][0, 0, 0, 0] = float("nan")
        return batch

    monkeypatch.setattr(data.Collator, "__call__", poisoned)


def test_a_nan_in_a_batch_skips_its_step(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch, 4, 5, 8)
    run = recipe.parent / "poisoned"
    overrides = (f"training.run={run}", "training.evaluate_every=null", "training.sample_every=null")
    assert main([str(recipe), *overrides, "training.keep=9"]) == 0
    found = lines(run)
    assert [line["step"] for line in found if line.get("skipped")] == [4, 5, 8]
    assert all(line["loss"] is None for line in found if line.get("skipped"))
    assert all(line["loss"] > 0 for line in found if not line.get("skipped"))
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("headrace: step")]
    assert [line.split(":")[1] for line in warned] == [" step 4", " step 8"]
    steps = [checkpoint.step for checkpoint in Checkpoints(run / "checkpoints").all()]
    assert steps == [10]  # steps 4 and 8 were due, and bad
    for values in Checkpoints(run / "checkpoints").all()[0].tensors("model").values():
        assert values.isfinite().all()


def test_too_many_in_a_row_stop_the_run_and_keep_the_good_checkpoint(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    poison(monkeypatch, *range(6, 20))
    run = recipe.parent / "diverged"
    overrides = (f"training.run={run}", "training.evaluate_every=null", "training.sample_every=null")
    assert main([str(recipe), *overrides, "training.max_skipped=3"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"headrace: steps 6 to 8: .*last good checkpoint is .*step-00000004\.", said)
    newest = Checkpoints(run / "checkpoints").newest()
    assert newest is not None
    assert newest.step == 4


def test_a_checkpoint_of_another_recipe_is_refused(
    whole: Path, recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main([str(recipe), f"training.run={run}", "training.steps=4"]) == 0
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("beta2: 0.999", "beta2: 0.99"))
    assert main([str(recipe), f"training.run={run}", "training.beta2=0.99"]) == 3
    assert "found the checkpoint of another recipe" in capsys.readouterr().err


WRONG = {
    ("training.sample_every=2", "sampling=null"): "sampling.prompts: found none, expected prompts, or sampling.",
    ("training.evaluate_every=2", "data.batch_size=32", "training.accumulate=1"): (
        "training.evaluate_where: found 24 samples in {}, expected at least 32"
    ),
    ("training.evaluate_every=0",): "training.evaluate_every: found 0",
    ("training.networks.critic={}",): "training.networks: found 'critic', expected one of model",
    ("data.batch_size=1000000000000",): "data.batch_size: found 1,000,000,000,000, of which a rank's images take",
}


@pytest.mark.parametrize("overrides", WRONG, ids=lambda overrides: overrides[0])
def test_wrong_recipes_are_one_line(
    recipe: Path, tmp_path: Path, overrides: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(recipe), f"training.run={tmp_path / 'run'}", *overrides]) == 2
    error = capsys.readouterr().err
    assert WRONG[overrides] in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory: …")],
)
def test_a_batch_that_does_not_fit_says_what_would_help(recipe: Path, error: RuntimeError) -> None:
    loaded = load_run_recipe(str(recipe))
    advice = r"data.batch_size: found 8 in 2 parts, .*a larger training.accumulate"
    with pytest.raises(RecipeError, match=advice), memory.fits(loaded.data, loaded.training):
        raise error
    with pytest.raises(RuntimeError, match="shape"), memory.fits(loaded.data, loaded.training):
        raise RuntimeError("shape '[2]' is invalid")


def test_a_budget_changes_nothing_but_memory_and_time(
    recipe: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The error names the smallest budget. With it the record is unchanged, and plan and measurements are reported."""
    run = recipe.parent / "budget"
    overrides = (f"training.run={run}", "training.evaluate_every=null", "training.sample_every=null")
    assert main([str(recipe), *overrides, "training.activation=1"]) == 2
    refused = capsys.readouterr().err
    found = re.search(r"training.activation: found 1 bytes, which no plan fits, expected at least ([\d,]+)", refused)
    assert found is not None
    least = int(found[1].replace(",", ""))
    shutil.rmtree(run)
    assert main([str(recipe), *overrides, f"training.activation={round(1.02 * least)}"]) == 0
    said = capsys.readouterr().err
    assert "activation plan of denoise" in said
    measured, predicted = re.findall(r"measured: ([\d.]+) MB.*predicted: ([\d.]+) MB", said)[0]
    assert float(measured) == pytest.approx(float(predicted), rel=0.1)
    plain = [{n: v for n, v in line.items() if not n.startswith("evaluation")} for line in lines(whole)]
    assert lines(run) == plain


def test_stretched_and_replaced_images_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = [cv2.imencode(".png", np.full((16, 48, 3), number, np.uint8))[1].tobytes() for number in range(8)]
    images[3] = b"no image"
    table = {"image": pa.array(images, pa.binary()), "caption": pa.array(["red square"] * 8)}
    write_deltalake(str(tmp_path / "wide"), pa.table(table))
    path = write_recipe(tmp_path / "recipe.yaml", recipe_of(tmp_path / "wide", tmp_path / "run", steps=3))
    assert main([str(path)]) == 3, "one bad image ends a run"
    capsys.readouterr()

    assert main([str(path), "data.on_bad_sample=replace", "data.crop=none", f"training.run={tmp_path / 'other'}"]) == 0
    said = capsys.readouterr().err.splitlines()
    (stretched,) = [line for line in said if "are stretched" in line]
    found = re.search(r"other: (\d+) of the first (\d+) images have another shape than the run's and are", stretched)
    assert found is not None
    assert int(found[1]) == int(found[2]) >= 7, "the good images of a batch, at least"
    (replaced,) = [line for line in said if "were replaced" in line]
    assert re.search(r"other: [3-5] bad images were replaced, such as .*row 3, column image: ", replaced), replaced
