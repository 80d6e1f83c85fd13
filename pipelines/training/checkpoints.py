"""Run checkpoints: folders that are there whole or not at all, with checksums, written beside the training.

    checkpoints/step-00000500/
        model.safetensors …   tensors by name, one file for each group
        state.json            the few numbers that the next step depends on
        checksums.json        SHA-256 of each file above

A save goes to a hidden folder, is forced to disk and renamed. Nothing in it is a pickle: loading runs no code.
"""

import json
import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

from pipelines.errors import DataError
from pipelines.training.files import remove_folder, sha256, sync

PREFIX, STATE, CHECKSUMS = "step-", "state.json", "checksums.json"
Tensors = Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True)
class Checkpoint:
    """One whole checkpoint on disk."""

    path: Path

    @property
    def step(self) -> int:
        """The optimizer steps done when it was saved."""
        return int(self.path.name.removeprefix(PREFIX))

    def state(self) -> dict[str, Any]:
        """The numbers given to `save`."""
        return json.loads((self.path / STATE).read_text(encoding="utf-8"))

    def tensors(self, group: str) -> dict[str, Tensor]:
        """The tensors of one group, on the CPU. Raises FileNotFoundError if there is no such group."""
        return load_file(self.path / f"{group}.safetensors")

    def damage(self) -> str | None:
        """What is wrong with it in one phrase, or None if every file is there with its checksum."""
        try:
            expected = json.loads((self.path / CHECKSUMS).read_text(encoding="utf-8"))
            unknown = {path.name for path in self.path.iterdir()} - {CHECKSUMS, *expected}
            if unknown or STATE not in expected:
                return f"{CHECKSUMS} does not name {', '.join(sorted(unknown)) or STATE}"
            for name, digest in expected.items():
                if sha256(self.path / name) != digest:
                    return f"{name} is not what was written"
        except FileNotFoundError as error:
            return f"{Path(error.filename).name} is missing"
        except (OSError, ValueError, AttributeError):
            return f"{CHECKSUMS} cannot be read"
        return None


class Checkpoints:
    """The checkpoints of a run: the last `keep` are kept."""

    def __init__(self, folder: Path, keep: int = 1) -> None:
        self.folder = folder
        self.keep = keep
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None

    def all(self) -> list[Checkpoint]:
        """What lies in the folder, oldest first, damaged ones included."""
        found = [path for path in self.folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
        return sorted((Checkpoint(path) for path in found), key=lambda checkpoint: checkpoint.step)

    def newest(self) -> Checkpoint | None:
        """The newest whole checkpoint, or None if there is none at all.

        A line on stderr names each damaged one that is passed over. Raises DataError if there are checkpoints and all
        of them are damaged.
        """
        found = self.all()
        for checkpoint in reversed(found):
            damage = checkpoint.damage()
            if damage is None:
                return checkpoint
            print(f"headrace: {checkpoint.path}: {damage}; the checkpoint before it is used", file=sys.stderr)
        if found:
            raise DataError(f"{self.folder}: found only damaged checkpoints; remove the folder to start from step 0")
        return None

    def save(self, step: int, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Save `tensors` and `state` as step `step`, in the background.

        Nobody else may write to the tensors, which are given by group and name. Waits for the save before, whose
        error, if any, it raises.
        """
        self.wait()
        self._saving = self._writer.submit(self._save, step, tensors, state)

    def wait(self) -> None:
        """Wait until nothing is being saved. Raises the error of the save that failed."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def clean(self) -> None:
        """Remove what a killed process left half written or half removed."""
        for path in self.folder.glob(f".{PREFIX}*"):
            shutil.rmtree(path)

    def _save(self, step: int, tensors: Tensors, state: Mapping[str, Any]) -> None:
        path = self.folder / f"{PREFIX}{step:08d}"
        hidden = path.with_name(f".{path.name}.tmp")
        hidden.mkdir(parents=True)
        for group, named in tensors.items():
            save_file(dict(named), hidden / f"{group}.safetensors")
        (hidden / STATE).write_text(json.dumps(state, indent=2), encoding="utf-8")
        files = sorted(hidden.iterdir())
        checksums = {file.name: sha256(file) for file in files}
        (hidden / CHECKSUMS).write_text(json.dumps(checksums, indent=2), encoding="utf-8")
        for file in (*files, hidden / CHECKSUMS, hidden):
            sync(file)
        if path.exists():  # a damaged one: a run goes on from the whole one before it
            remove_folder(path)
        hidden.rename(path)
        sync(self.folder)
        self._retire(step)

    def _retire(self, step: int) -> None:
        """Remove all but the last `keep` up to `step`, which has just been saved and is among them."""
        done = [checkpoint for checkpoint in self.all() if checkpoint.step <= step]
        for checkpoint in done[: -self.keep]:
            remove_folder(checkpoint.path)
