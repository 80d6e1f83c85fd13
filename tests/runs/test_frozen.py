"""Networks of finished runs: only the bytes that are used are verified, each of them once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from headrace import files, models
from headrace.recipe.classifier import Classifier
from headrace.runs import checkpoints as checkpoints_module
from headrace.runs import frozen
from headrace.runs.checkpoints import Checkpoints
from headrace.runs.run_folder import RunFolder

RECIPE: Any = SimpleNamespace(model=Classifier(network="classifier", labels=3, resolution=8, channels=8))
CPU = torch.device("cpu")
USES: dict[str, Callable[[RunFolder, RunFolder], object]] = {
    "averaged": lambda folder, user: frozen.averaged(frozen.newest(folder), "model"),
    "network": lambda folder, user: frozen.network(RECIPE, frozen.newest(folder), CPU),
    "sealed": lambda folder, user: frozen.BaseRun("model.base", folder, RECIPE).sealed(CPU, user),
}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    """A run with checkpoints of two steps, whose averages differ in size from everything that is trained."""
    folder = RunFolder(tmp_path / "run")
    checkpoints = Checkpoints(folder.checkpoints, keep=2)
    weights = {name: value.contiguous() for name, value in models.build(RECIPE.model).state_dict().items()}
    for step in (1, 2):
        moments = {f"{name}/exp_avg": torch.zeros(2, *value.shape) for name, value in weights.items()}
        checkpoints.save(step, {"model": weights, "model.ema": weights, "model.optimizer": moments}, {"step": step})
    checkpoints.wait()
    (tmp_path / "user").mkdir()
    return folder


@pytest.mark.parametrize("use", USES)
def test_only_the_averages_are_hashed_and_once(
    use: str, folder: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[int] = []

    def sha256(path: Path) -> str:
        hashed.append(path.stat().st_size)
        return files.sha256(path)

    monkeypatch.setattr(checkpoints_module, "sha256", sha256)
    USES[use](folder, RunFolder(tmp_path / "user"))
    newest = folder.checkpoints / "step-00000002"
    assert sum(hashed) == (newest / "model.ema.safetensors").stat().st_size
    assert sum(hashed) * 3 < sum(path.stat().st_size for path in newest.iterdir())


def test_the_step_is_that_of_the_weights_even_after_falling_back(folder: RunFolder) -> None:
    assert frozen.newest(folder).step == 2
    (folder.checkpoints / "step-00000002" / "model.ema.safetensors").write_bytes(b"damaged")
    assert frozen.newest(folder).step == 1
