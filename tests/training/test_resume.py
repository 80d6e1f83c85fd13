"""Exact resume: whatever stops a run, its record and weights are those of an uninterrupted run."""

from __future__ import annotations

import math
import random
import shutil
import signal
import time
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from headrace.runs.checkpoints import Checkpoints
from tests.tiny_runs import losses, recipe_of, train, write_recipe

STEPS = 40
LONG = "training.steps=100000"


@pytest.fixture(scope="module")
def recipe(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 steps with dropout and activation checkpointing, and a save every 5."""
    folder = tmp_path_factory.mktemp("resume")
    recipe = recipe_of(dataset, folder / "unused", steps=STEPS, checkpoint_every=5, activation="sqrt", decay="cosine")
    recipe["model"]["dropout"] = 0.2
    return write_recipe(folder / "recipe.yaml", recipe)


@pytest.fixture(scope="module")
def whole(recipe: Path, processes: ForkServerContext) -> Path:
    """The uninterrupted run."""
    run = recipe.parent / "whole"
    assert finish(start(processes, recipe, run)) == 0
    return run


def start(processes: ForkServerContext, recipe: Path, run: Path, *overrides: str) -> BaseProcess:
    arguments = (recipe, run.parent / f"{run.name}.log", f"training.run={run}", *overrides)
    process = processes.Process(target=train, args=arguments)
    process.start()
    return process


def finish(process: BaseProcess, seconds: float = 120) -> int | None:
    process.join(seconds)
    assert process.exitcode is not None
    return process.exitcode


def assert_same(run: Path, whole: Path, steps: int = STEPS) -> None:
    assert (run / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    ours, theirs = (Checkpoints(folder / "checkpoints").newest() for folder in (run, whole))
    assert ours is not None
    assert theirs is not None
    assert ours.step == theirs.step == steps
    names = {path.name for path in theirs.path.glob("*.safetensors")}
    assert names == {path.name for path in ours.path.glob("*.safetensors")}
    assert names >= {"model.ema.safetensors", "model.optimizer.safetensors", "model.safetensors"}
    for name in names:
        expected, found = load_file(theirs.path / name), load_file(ours.path / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[key], found[key]) for key in expected)


def wait_for(condition: object, process: BaseProcess, seconds: float = 120) -> bool:
    """Poll until `condition()` is true; False if the process ended first."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        if not process.is_alive():
            return False
        time.sleep(0.0003)
    raise AssertionError("timed out")


@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_at_random_moments(recipe: Path, whole: Path, processes: ForkServerContext, count: int) -> None:
    """Kills the run at random, every other time in the middle of a save."""
    run = recipe.parent / f"killed-{count}"
    draw = random.Random(count)
    kills = 0
    checkpoints = run / "checkpoints"
    while kills < count:
        process = start(processes, recipe, run)
        if kills % 2:
            saves = draw.randint(1, 2)
            for _ in range(saves):
                wait_for(lambda: not list(checkpoints.glob(".*.tmp")), process)
                wait_for(lambda: list(checkpoints.glob(".*.tmp")), process)
        else:
            lines = len(losses_or_none(run)) + draw.randint(0, 9)
            wait_for(lambda lines=lines: len(losses_or_none(run)) >= lines, process)
            time.sleep(draw.random() * 0.02)
        process.kill()
        if finish(process) == 0:  # the run was faster: start over
            shutil.rmtree(run)
            continue
        if kills % 2 and not list(checkpoints.glob(".*.tmp")):  # the save was faster: kill again
            continue
        kills += 1
        if Checkpoints(checkpoints).all() and Checkpoints(checkpoints).all()[-1].step >= STEPS - 5:
            assert finish(start(processes, recipe, run)) == 0
            assert_same(run, whole)
            shutil.rmtree(run)
    assert finish(start(processes, recipe, run)) == 0
    assert_same(run, whole)


def losses_or_none(run: Path) -> list[str]:
    path = run / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def test_a_damaged_newest_checkpoint_costs_its_steps_only(
    recipe: Path, whole: Path, processes: ForkServerContext
) -> None:
    run = recipe.parent / "damaged"
    process = start(processes, recipe, run)
    wait_for(lambda: (run / "checkpoints" / "step-00000010").exists(), process)
    process.kill()
    finish(process)
    newest = Checkpoints(run / "checkpoints").all()[-1]
    weights = newest.path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    assert finish(start(processes, recipe, run)) == 0
    assert_same(run, whole)
    assert "falling back to an earlier one" in (run.parent / "damaged.log").read_text()


def test_sigterm_saves_and_ends_with_143(recipe: Path, processes: ForkServerContext) -> None:
    """The run is long enough to be stopped on any machine. It then continues for three more steps."""
    run, constant = recipe.parent / "preempted", "training.decay=constant"
    process = start(processes, recipe, run, constant, LONG)
    wait_for(lambda: len(losses_or_none(run)) >= 7, process)
    process.terminate()
    assert finish(process) == 128 + signal.SIGTERM
    newest = Checkpoints(run / "checkpoints").newest()
    assert newest is not None
    assert newest.step == len(losses(run)) >= 7
    ends = f"training.steps={newest.step + 3}"
    assert finish(start(processes, recipe, run, constant, ends)) == 0
    assert finish(start(processes, recipe, recipe.parent / "never-stopped", constant, ends)) == 0
    assert_same(run, recipe.parent / "never-stopped", newest.step + 3)


def test_steps_may_be_raised(recipe: Path, processes: ForkServerContext) -> None:
    """If the learning rate does not depend on the last step, a run in two goes equals a run in one."""
    constant = "training.decay=constant"
    once, twice = recipe.parent / "once", recipe.parent / "twice"
    assert finish(start(processes, recipe, once, constant, "training.steps=14")) == 0
    assert finish(start(processes, recipe, twice, constant, "training.steps=7")) == 0
    assert finish(start(processes, recipe, twice, constant, "training.steps=14")) == 0
    assert (once / "metrics.jsonl").read_bytes() == (twice / "metrics.jsonl").read_bytes()
    before = (twice / "metrics.jsonl").stat().st_mtime_ns
    assert finish(start(processes, recipe, twice, constant, "training.steps=14")) == 0
    assert (twice / "metrics.jsonl").stat().st_mtime_ns == before
    assert "finished at step 14; nothing to do" in (recipe.parent / "twice.log").read_text()
    assert finish(start(processes, recipe, twice, constant, "training.steps=9")) == 2
    assert "training.steps: found 9, expected at least the 14 steps done" in (recipe.parent / "twice.log").read_text()


def test_two_processes_cannot_train_in_one_folder(recipe: Path, processes: ForkServerContext) -> None:
    run = recipe.parent / "shared"
    first = start(processes, recipe, run, LONG)
    wait_for(lambda: len(losses_or_none(run)) >= 1, first)
    second = start(processes, recipe, run, LONG)
    assert finish(second) == 2
    assert "found another process that trains" in (recipe.parent / "shared.log").read_text()
    first.kill()
    finish(first)


def test_a_loss_that_is_not_finite_stops_the_run(recipe: Path, processes: ForkServerContext) -> None:
    """The first step makes weights so large that all later ones fail. The only checkpoint is that of the first."""
    run = recipe.parent / "diverged"
    overrides = ("training.learning_rate=1e30", "training.warmup=0", "training.checkpoint_every=1")
    assert finish(start(processes, recipe, run, *overrides, "training.max_skipped=5")) == 1
    first, *others = losses(run)
    assert math.isfinite(first)
    assert others == [None] * 5
    assert "headrace: steps 2 to 6: non-finite loss" in (recipe.parent / "diverged.log").read_text()
    (checkpoint,) = Checkpoints(run / "checkpoints").all()
    assert checkpoint.step == 1
    weights = checkpoint.tensors("model")
    assert weights
    assert all(value.isfinite().all() for value in weights.values())
