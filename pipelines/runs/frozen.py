"""Networks of finished runs, as they are used by others: averaged weights, evaluation mode, nothing to train."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headrace import models
from headrace.errors import DataError, RecipeError
from headrace.files import write_text
from headrace.recipe import Recipe
from headrace.runs.checkpoints import Checkpoint, Checkpoints
from headrace.runs.run_folder import RunFolder


def network(folder: RunFolder, recipe: Recipe, device: torch.device) -> Any:
    """The network that the run in `folder` trains by `recipe`, its weights those averaged up to the newest checkpoint.

    Raises DataError if the run has no whole checkpoint yet or one of another architecture.
    """
    return network_at(folder, recipe, device)[0]


def network_at(folder: RunFolder, recipe: Recipe, device: torch.device) -> tuple[Any, int]:
    """The result of `network`, and the step of the checkpoint that its weights are from."""
    assert recipe.model is not None
    model: nn.Module = models.build(recipe.model)
    step = load_averaged(model, folder, "model")
    return model.to(device).eval().requires_grad_(False), step


def load_averaged(module: nn.Module, folder: RunFolder, network: str) -> int:
    """Load the averaged weights of `network` from the newest checkpoint that has them whole; returns its step.

    Raises DataError if there is none yet, or if it is of another architecture.
    """
    checkpoint = _newest(folder, network)
    try:
        module.load_state_dict(checkpoint.tensors(f"{network}.ema"))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise DataError(f"{folder.checkpoints}: found weights of another architecture ({first})") from None
    return checkpoint.step


def sealed(folder: RunFolder, recipe: Recipe, device: torch.device, key: str, user: RunFolder) -> Any:
    """As `network`, of the run that the recipe's `key` names, for the run `user` that is built on it.

    The first time, the folder of `user` notes by SHA-256 which weights they are; from then on they must be the same.
    Raises DataError if they are not.
    """
    made, step = network_at(folder, recipe, device)
    now = {"step": step, "sha256": digest(made)}
    notes = user.path / "frozen.json"
    noted = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
    before = noted.setdefault(key, now)
    if before["sha256"] != now["sha256"]:
        found = f"{folder.path}: found the weights of step {now['step']}"
        raise DataError(f"{found}, expected those of step {before['step']} that {user.path} was trained with")
    if not notes.exists() or noted != json.loads(notes.read_text(encoding="utf-8")):
        write_text(notes, json.dumps(noted, indent=2) + "\n")  # every rank writes the same
    return made


def digest(module: nn.Module) -> str:
    """The SHA-256 of a module's parameters and buffers, by name, in hexadecimal."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def averaged(folder: RunFolder, network: str) -> dict[str, Tensor]:
    """The averaged weights of `network`, on the CPU, from the newest checkpoint that has them whole.

    Raises DataError if there is none yet.
    """
    return _newest(folder, network).tensors(f"{network}.ema")


def _newest(folder: RunFolder, network: str) -> Checkpoint:
    """The newest checkpoint whose averaged weights of `network` are whole; nothing else of it is verified."""
    checkpoint = Checkpoints(folder.checkpoints).newest(f"{network}.ema")
    if checkpoint is None:
        raise DataError(f"{folder.checkpoints}: found no checkpoint, expected a run that has saved at least one")
    return checkpoint


def run(path: str, key: str) -> tuple[RunFolder, Recipe]:
    """The run folder that the recipe's `key` names, and its recipe. Raises RecipeError if it is none."""
    folder = RunFolder(Path(path))
    try:
        return folder, folder.load(("model", "objective"))
    except RecipeError as error:
        raise RecipeError(f"{key}: {error}") from None
