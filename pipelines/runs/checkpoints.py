"""Run checkpoints: folders that are there whole or not at all, with checksums, written beside the training.

    checkpoints/step-00000500/
        model.safetensors …   tensors by name, one file for each group
        shards/…safetensors   instead of these, where ranks share weights: each rank's pieces, by torch's DCP
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

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from headrace.errors import DataError
from headrace.files import remove_folder, sha256, sync
from headrace.ranks.pieces import is_shared, rows
from headrace.ranks.workers import Workers
from headrace.runs import shards

PREFIX, STATE, CHECKSUMS, METRIC = "step-", "state.json", "checksums.json", "metric"
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

    def names(self, group: str) -> list[str]:
        """The names of the tensors of one group. Raises FileNotFoundError if there is no such group."""
        if self._sharded:
            return shards.names(self.path / shards.FOLDER, group)
        with safe_open(self.path / f"{group}.safetensors", framework="pt") as file:
            return list(file.keys())

    def tensors(self, group: str) -> dict[str, Tensor]:
        """The tensors of one group, on the CPU. Raises FileNotFoundError if there is no such group."""
        if self._sharded:
            return shards.read(self.path / shards.FOLDER, group, shards.shapes(self.path / shards.FOLDER, group))
        with safe_open(self.path / f"{group}.safetensors", framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}

    def read(self, group: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This rank's pieces, cut as those of `like` are, of the tensors of one group, on the CPU.

        Raises DataError if the group holds other tensors: it is of another architecture.
        """
        found = self.names(group)
        odd = sorted(set(like).symmetric_difference(found))
        if odd:
            where = "more" if odd[0] in found else "less"
            raise DataError(f"{self.path}: found weights of another architecture ({group} has {odd[0]} {where})")
        try:
            if self._sharded:
                return shards.read(self.path / shards.FOLDER, group, like)
            with safe_open(self.path / f"{group}.safetensors", framework="pt") as file:
                return {name: self._cut(file, name, tensor) for name, tensor in like.items()}
        except (ValueError, SafetensorError) as error:
            raise DataError(f"{self.path}: found weights of another architecture ({group}: {error})") from None

    def damage(self) -> str | None:
        """What is wrong with it in one phrase, or None if every file is there with its checksum."""
        try:
            expected = json.loads((self.path / CHECKSUMS).read_text(encoding="utf-8"))
            files = {path.relative_to(self.path).as_posix() for path in self.path.rglob("*") if path.is_file()}
            unknown = files - {CHECKSUMS, *expected}
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

    def metric(self) -> float | None:
        """The loss that tells the best checkpoint, or None if it cannot be read."""
        try:
            found = self.state().get(METRIC)
        except (OSError, ValueError):
            return None
        return None if found is None else float(found)

    @property
    def _sharded(self) -> bool:
        return (self.path / shards.FOLDER).is_dir()

    @staticmethod
    def _cut(file: Any, name: str, like: Tensor) -> Tensor:
        shape = list(file.get_slice(name).get_shape())
        if shape != list(like.shape):
            raise ValueError(f"{name} is {shape}, expected {list(like.shape)}")
        return file.get_slice(name)[rows(like)] if shape else file.get_tensor(name)


class Checkpoints:
    """The checkpoints of a run: the last `keep` are kept, and the one of the least loss if `best`."""

    def __init__(self, folder: Path, keep: int = 1, best: bool = False, workers: Workers | None = None) -> None:
        """`workers` are needed where ranks share weights and save together."""
        self.folder = folder
        self.keep, self.best = keep, best
        self._workers = workers
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None
        self._group: Any = None

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
            print(f"headrace: {checkpoint.path}: {damage}; one before it is looked for", file=sys.stderr)
        if found:
            raise DataError(f"{self.folder}: found only damaged checkpoints; remove the folder to start from step 0")
        return None

    def save(self, step: int, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Save `tensors` and `state` as step `step`, in the background.

        Nobody else may write to the tensors, which are given by group and name, until `wait`. Where they are pieces of
        what ranks share, all ranks call this. Waits for the save before, whose error, if any, it raises.
        """
        self.wait()
        shared = any(is_shared(tensor) for named in tensors.values() for tensor in named.values())
        if shared and self._group is None:
            self._group = torch.distributed.new_group(backend="gloo")  # of the writer's own: it works beside training
        self._saving = self._writer.submit(self._save_shards if shared else self._save, step, tensors, state)

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
        hidden = self._hidden(step)
        hidden.mkdir(parents=True)
        for group, named in tensors.items():
            save_file(dict(named), hidden / f"{group}.safetensors")
        files = sorted(hidden.iterdir())
        checksums = {file.name: sha256(file) for file in files}
        for file in files:
            sync(file)
        self._commit(step, checksums, state)

    def _save_shards(self, step: int, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Each rank writes its pieces and their sums; the first one commits."""
        assert self._workers is not None
        folder = self._hidden(step) / shards.FOLDER
        if self._workers.first:
            folder.mkdir(parents=True)
        torch.distributed.barrier(self._group)
        checksums = shards.write(folder, tensors, self._group)
        gathered: list[dict[str, str]] = [{} for _ in range(self._workers.world_size)]
        torch.distributed.all_gather_object(gathered, checksums, group=self._group)
        if self._workers.first:
            sync(folder)
            self._commit(step, {name: digest for each in gathered for name, digest in each.items()}, state)
        torch.distributed.barrier(self._group)

    def _commit(self, step: int, checksums: Mapping[str, str], state: Mapping[str, Any]) -> None:
        """Write state and checksums, force them to disk, and put the folder in its place."""
        hidden = self._hidden(step)
        path = self.folder / f"{PREFIX}{step:08d}"
        (hidden / STATE).write_text(json.dumps(state, indent=2), encoding="utf-8")
        every = {**checksums, STATE: sha256(hidden / STATE)}
        (hidden / CHECKSUMS).write_text(json.dumps(every, indent=2), encoding="utf-8")
        for file in (hidden / STATE, hidden / CHECKSUMS, hidden):
            sync(file)
        if path.exists():  # a damaged one: a run goes on from the whole one before it
            remove_folder(path)
        hidden.rename(path)
        sync(self.folder)
        self._retire(step)

    def _hidden(self, step: int) -> Path:
        return self.folder / f".{PREFIX}{step:08d}.tmp"

    def _retire(self, step: int) -> None:
        """Remove all up to `step`, which has just been saved, but the last `keep` and the best."""
        done = [checkpoint for checkpoint in self.all() if checkpoint.step <= step]
        kept = done[-self.keep :]
        if self.best:
            rated = [(metric, checkpoint.step) for checkpoint in done if (metric := checkpoint.metric()) is not None]
            kept += [checkpoint for checkpoint in done if rated and checkpoint.step == min(rated)[1]]
        for checkpoint in done:
            if checkpoint not in kept:
                remove_folder(checkpoint.path)
