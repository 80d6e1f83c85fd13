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
    assert recipe.model is not None
    model: nn.Module = models.build(recipe.model)
    load_averaged(model, folder, "model")
    return model.to(device).eval().requires_grad_(False)


def load_averaged(module: nn.Module, folder: RunFolder, network: str) -> None:
    """Load the averaged weights of `network` from the newest whole checkpoint.

    Raises DataError if the run has no whole checkpoint yet or one of another architecture.
    """
    try:
        module.load_state_dict(averaged(folder, network))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise DataError(f"{folder.checkpoints}: found weights of another architecture ({first})") from None


def sealed(folder: RunFolder, recipe: Recipe, device: torch.device, key: str, user: RunFolder) -> Any:
    """As `network`, of the run that the recipe's `key` names, for the run `user` that is built on it.

    The first time, the folder of `user` notes by SHA-256 which weights they are; from then on they must be the same.
    Raises DataError if they are not.
    """
    made = network(folder, recipe, device)
    now = {"step": _newest(folder).step, "sha256": digest(made)}
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
    """The averaged weights of `network` in the newest whole checkpoint, on the CPU.

    Raises DataError if the run has no whole checkpoint yet.
    """
    return _newest(folder).tensors(f"{network}.ema")


def _newest(folder: RunFolder) -> Checkpoint:
    checkpoint = Checkpoints(folder.checkpoints).newest()
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
