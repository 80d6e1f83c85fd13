"""Networks of finished runs as other code uses them: averaged weights, evaluation mode, no gradients."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from headrace import models
from headrace.errors import DataError, RecipeError
from headrace.files import write_text
from headrace.recipe import RunRecipe
from headrace.runs.checkpoints import Checkpoint, Checkpoints
from headrace.runs.run_folder import RunFolder

Section = TypeVar("Section")


@dataclass(frozen=True)
class BaseRun:
    """A finished run that another recipe names: an autoencoder, the base of a ControlNet, a classifier."""

    key: str
    """the key that names it, for messages"""
    folder: RunFolder
    recipe: RunRecipe

    def model(self, kind: type[Section], network: str) -> Section:
        """The run's `model` section, of type `kind`. Raises RecipeError if the run trains another kind of network.

        `network` says in the message what is expected, as in "a classifier".
        """
        if not isinstance(self.recipe.model, kind):
            found = f"found a run of another network at {self.folder.path}"
            raise RecipeError(f"{self.key}: {found}, expected one of {network}")
        return self.recipe.model

    def newest(self, network: str = "model") -> Checkpoint:
        """The newest checkpoint with whole averaged weights of `network`. Raises DataError if there is none yet."""
        try:
            return newest(self.folder, network)
        except DataError as error:
            raise DataError(f"{self.key}: {error}") from None

    def network(self, checkpoint: Checkpoint, device: torch.device) -> Any:
        """The network that the `model` section describes, with the averaged weights of `checkpoint`.

        Raises DataError if the checkpoint is of another architecture.
        """
        return network(self.recipe, checkpoint, device)

    def sealed(self, device: torch.device, user: RunFolder) -> Any:
        """The network of the newest checkpoint, for the run `user`, which is built on these weights and no others.

        The first call notes the SHA-256 of the weights in `frozen.json` of the folder of `user`. Raises DataError if a
        later call finds other weights, or if there is no checkpoint yet.
        """
        checkpoint = self.newest()
        module = self.network(checkpoint, device)
        now = {"step": checkpoint.step, "sha256": digest(module)}
        notes = user.path / "frozen.json"
        noted = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
        before = noted.get(self.key)
        if before is None:
            write_text(notes, json.dumps(noted | {self.key: now}, indent=2) + "\n")  # every rank writes the same
        elif before["sha256"] != now["sha256"]:
            found = f"{self.folder.path}: found the weights of step {now['step']}"
            raise DataError(f"{found}, expected those of step {before['step']} that {user.path} was trained with")
        return module


def base_run(path: str, key: str) -> BaseRun:
    """Open the run at `path`, which the recipe's `key` names. Raises RecipeError if there is no run.

    This reads the run's YAML, so keep what it returns.
    """
    folder = RunFolder(Path(path))
    try:
        return BaseRun(key, folder, folder.load())
    except RecipeError as error:
        raise RecipeError(f"{key}: {error}") from None


def newest(folder: RunFolder, network: str = "model") -> Checkpoint:
    """The newest checkpoint of a run with whole averaged weights of `network`; no other file of it is verified.

    Raises DataError if there is none yet.
    """
    checkpoint = Checkpoints(folder.checkpoints).newest(f"{network}.ema")
    if checkpoint is None:
        raise DataError(f"{folder.checkpoints}: found no checkpoint, expected a run that has saved at least one")
    return checkpoint


def network(recipe: RunRecipe, checkpoint: Checkpoint, device: torch.device) -> Any:
    """The network that the `model` section describes, with averaged weights, in evaluation mode and without gradients.

    Raises DataError if `checkpoint` is of another architecture.
    """
    module: nn.Module = models.build(recipe.model)
    load_averaged(module, checkpoint, "model")
    return module.to(device).eval().requires_grad_(False)


def averaged(checkpoint: Checkpoint, network: str) -> dict[str, Tensor]:
    """The averaged weights of `network`, on the CPU."""
    return checkpoint.tensors(f"{network}.ema")


def load_averaged(module: nn.Module, checkpoint: Checkpoint, network: str) -> None:
    """Load the averaged weights of `network` into `module`. Raises DataError if they are of another architecture."""
    try:
        module.load_state_dict(averaged(checkpoint, network))
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise DataError(f"{checkpoint.path}: found weights of another architecture ({first})") from None


def digest(module: nn.Module) -> str:
    """The SHA-256 of a module's parameters and buffers, by name, in hexadecimal."""
    found = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        found.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()
