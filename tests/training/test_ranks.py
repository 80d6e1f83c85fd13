"""Several ranks have the same global batches and losses as one, and a run can resume on another number of ranks."""

from __future__ import annotations

import json
import socket
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
from safetensors.torch import load_file

from headrace.runs.checkpoints import Checkpoints
from tests.tiny_runs import losses, rank_of, recipe_of, write_recipe


def train_on(processes: ForkServerContext, ranks: int, recipe: Path, run: Path, *overrides: str) -> list[int | None]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = run.parent / f"{run.name}.log"
    workers = [
        processes.Process(target=rank_of, args=(rank, ranks, port, recipe, log, f"training.run={run}", *overrides))
        for rank in range(ranks)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return [worker.exitcode for worker in workers]


WATCHED = {"evaluate_every": 2, "evaluate_samples": 16}


def evaluations(run: Path) -> dict[int, float]:
    """The losses under averaged weights, by step."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["evaluation/loss"] for line in lines if "evaluation/loss" in line}


def rates(run: Path) -> list[float]:
    """The learning rates of a run, which depend on the samples that all ranks together have seen."""
    return [json.loads(line)["learning_rate"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def recipe(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    return write_recipe(folder / "recipe.yaml", recipe_of(dataset, folder / "unused", activation="full", **WATCHED))


@pytest.fixture(scope="module")
def alone(recipe: Path, processes: ForkServerContext) -> Path:
    run = recipe.parent / "alone"
    assert train_on(processes, 1, recipe, run) == [0]
    return run


@pytest.mark.parametrize("ranks", [2, 4])
def test_losses_are_those_of_one_rank(ranks: int, recipe: Path, alone: Path, processes: ForkServerContext) -> None:
    run = recipe.parent / f"on-{ranks}"
    assert train_on(processes, ranks, recipe, run) == [0] * ranks
    assert losses(run) == pytest.approx(losses(alone), abs=1e-6)
    assert rates(run) == rates(alone)
    assert evaluations(run) == pytest.approx(evaluations(alone), abs=1e-5)
    averages = "checkpoints/step-00000010/model.ema.safetensors"
    ours, theirs = load_file(run / averages), load_file(alone / averages)
    for name, value in theirs.items():
        assert (ours[name] - value).abs().max() < 1e-4, name


SHARED = [
    ("fsdp", 2, "sqrt"),
    pytest.param("fsdp", 4, "full", marks=pytest.mark.slow),
    pytest.param("hsdp", 4, "none", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("parallel", "ranks", "policy"), SHARED)
def test_ranks_that_share_weights(
    parallel: str, ranks: int, policy: str, recipe: Path, alone: Path, processes: ForkServerContext
) -> None:
    """They have the losses of one rank. One rank can read what they save together, and they what one rank saves."""
    run = recipe.parent / f"{parallel}-{ranks}"
    shared = (f"training.parallel={parallel}", f"training.activation={policy}", "training.shard=2")
    assert train_on(processes, 1, recipe, run, "training.steps=3") == [0]
    assert train_on(processes, ranks, recipe, run, *shared, "training.steps=6") == [0] * ranks
    checkpoint = Checkpoints(run / "checkpoints").newest()
    assert checkpoint is not None
    assert {path.suffix for path in checkpoint.path.rglob("*") if path.is_file()} == {".json", ".safetensors"}
    for group in ("model", "model.ema", "model.optimizer"):
        assert len(list((checkpoint.path / group).iterdir())) == ranks
    assert train_on(processes, 2, recipe, run, "training.parallel=fsdp", "training.steps=8") == [0] * 2
    assert train_on(processes, 1, recipe, run) == [0]
    assert losses(run) == pytest.approx(losses(alone), abs=1e-6)
    found = evaluations(run)  # includes step 3, because the run ended there at first
    assert {step: found[step] for step in evaluations(alone)} == pytest.approx(evaluations(alone), abs=1e-5)
    ours, theirs = (Checkpoints(folder / "checkpoints").newest() for folder in (run, alone))
    assert ours is not None
    assert theirs is not None
    for group in ("model", "model.ema"):
        found = ours.tensors(group)
        for name, value in theirs.tensors(group).items():
            assert (found[name] - value).abs().max() < 1e-4, name


def test_groups_of_ranks_that_do_not_come_out_even(recipe: Path, processes: ForkServerContext) -> None:
    run = recipe.parent / "groups"
    assert train_on(processes, 2, recipe, run, "training.parallel=hsdp", "training.shard=3") == [2, 2]
    line = "headrace: training.shard: found 3, expected a divisor of the 2 ranks that train"
    assert set((recipe.parent / "groups.log").read_text().splitlines()) == {line}


def test_a_resume_on_more_ranks_goes_on_with_the_same_batches(
    recipe: Path, alone: Path, processes: ForkServerContext
) -> None:
    run = recipe.parent / "grown"
    assert train_on(processes, 1, recipe, run, "training.steps=5") == [0]
    assert train_on(processes, 2, recipe, run) == [0, 0]
    assert losses(run) == pytest.approx(losses(alone), abs=1e-6)


def test_ranks_that_do_not_divide_the_batch(recipe: Path, processes: ForkServerContext) -> None:
    run = recipe.parent / "uneven"
    assert train_on(processes, 3, recipe, run) == [2, 2, 2]
    line = "headrace: data.batch_size: found 8, expected a multiple of the 3 ranks that train"
    assert set((recipe.parent / "uneven.log").read_text().splitlines()) == {line}
    assert not run.exists()
