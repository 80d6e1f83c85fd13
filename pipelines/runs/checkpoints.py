"""Run checkpoints: folders that are there whole or not at all, with checksums, written in the background.

    checkpoints/step-00000500/
        model.safetensors …         the tensors of a group by name, one file per group
        model/shard-…safetensors …  instead, for a group that ranks hold pieces of: a file per rank
        state.json                  the few numbers that the next step depends on
        checksums.json              the SHA-256 of each file above

A save goes to a hidden folder, is forced to disk and renamed. Nothing in it is a pickle, so loading runs no code.

Both forms of a group are kept on purpose. Torch's sharded writer (DCP) could write a single rank's groups as well, but
it serialises each tensor in memory first: 200 MB took 3 to 4 times as long to save and to load, and twice the memory.
A plain file is also what exports copy, and what other programs open by name.
"""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
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
        if self._sharded(group):
            return list(shards.shapes(self.path / group))
        with safe_open(self.path / f"{group}.safetensors", framework="pt") as file:
            return list(file.keys())

    def tensors(self, group: str) -> dict[str, Tensor]:
        """The tensors of one group, on the CPU. Raises FileNotFoundError if there is no such group."""
        if self._sharded(group):
            return shards.read(self.path / group, shards.shapes(self.path / group))
        with safe_open(self.path / f"{group}.safetensors", framework="pt") as file:
            return {name: file.get_tensor(name) for name in list(file.keys())}

    def read(self, group: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """This rank's pieces of the tensors of one group, cut as those of `like` are, on the CPU.

        Raises DataError if the group holds other names or shapes: it is of another architecture.
        """
        found = self.names(group)
        odd = sorted(set(like).symmetric_difference(found))
        if odd:
            where = "more" if odd[0] in found else "less"
            raise DataError(f"{self.path}: found weights of another architecture ({group} has {odd[0]} {where})")
        try:
            if self._sharded(group):
                return shards.read(self.path / group, like)
            with safe_open(self.path / f"{group}.safetensors", framework="pt") as file:
                return {name: self._cut(file, name, tensor) for name, tensor in like.items()}
        except (ValueError, SafetensorError) as error:
            raise DataError(f"{self.path}: found weights of another architecture ({group}: {error})") from None

    def damage(self, *groups: str) -> str | None:
        """What is wrong with it in one phrase, or None if every file is there with its checksum.

        With `groups`, only their files are read and judged.
        """
        try:
            checksums = json.loads((self.path / CHECKSUMS).read_text(encoding="utf-8"))
            expected = {name: digest for name, digest in checksums.items() if _belongs(name, groups)}
            for needed in groups or (STATE,):
                if not any(name == needed or _belongs(name, (needed,)) for name in expected):
                    return f"{CHECKSUMS} does not name {needed}"
            found = (path for path in self.path.rglob("*") if path.is_file() and not path.name.startswith("."))
            files = (path.relative_to(self.path).as_posix() for path in found)
            unknown = {name for name in files if _belongs(name, groups)} - {CHECKSUMS, *expected}
            if unknown:
                return f"{CHECKSUMS} does not name {', '.join(sorted(unknown))}"
            for name, digest in expected.items():
                if sha256(self.path / name) != digest:
                    return f"{name} is not what was written"
        except FileNotFoundError as error:
            return f"{Path(error.filename).name} is missing"
        except (IsADirectoryError, NotADirectoryError) as error:
            return f"{Path(error.filename).name} is not what was written"
        except OSError as error:  # no right to read it, or a disk that fails: the checkpoint may well be whole
            raise DataError(f"{error.filename}: found {error.strerror}, expected a readable file") from None
        except (ValueError, AttributeError, RecursionError):
            return f"{CHECKSUMS} cannot be read"
        return None

    def metric(self) -> float | None:
        """The loss by which the best checkpoint is chosen, or None if it cannot be read."""
        try:
            found = self.state().get(METRIC)
        except (OSError, ValueError):
            return None
        return None if found is None else float(found)

    def _sharded(self, group: str) -> bool:
        return (self.path / group).is_dir()

    @staticmethod
    def _cut(file: Any, name: str, like: Tensor) -> Tensor:
        shape = list(file.get_slice(name).get_shape())
        if shape != list(like.shape):
            raise ValueError(f"{name} is {shape}, expected {list(like.shape)}")
        return file.get_slice(name)[rows(like)] if shape else file.get_tensor(name)


class Checkpoints:
    """The checkpoints of a run. The last `keep` are kept and, if `best`, the one with the lowest loss."""

    def __init__(self, folder: Path, keep: int = 1, best: bool = False, workers: Workers | None = None) -> None:
        """`workers` are needed where ranks hold pieces of the tensors and save together."""
        self.folder = folder
        self.keep, self.best = keep, best
        self._workers = workers
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._saving: Future[None] | None = None
        self._group: Any = None

    def all(self) -> list[Checkpoint]:
        """All checkpoints in the folder, oldest first, damaged ones included. None is verified."""
        found = [path for path in self.folder.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdecimal()]
        return sorted((Checkpoint(path) for path in found), key=lambda checkpoint: checkpoint.step)

    def newest(self, *groups: str) -> Checkpoint | None:
        """The newest whole checkpoint, or None if there are no checkpoints.

        With `groups`, only these are verified: name what you read, and the rest is neither read nor judged. A line on
        stderr names each damaged checkpoint that is passed over. Raises DataError if all of them are damaged.
        """
        found = self.all()
        for checkpoint in reversed(found):
            damage = checkpoint.damage(*groups)
            if damage is None:
                return checkpoint
            print(f"headrace: {checkpoint.path}: {damage}; falling back to an earlier one", file=sys.stderr)
        if found:
            raise DataError(f"{self.folder}: found only damaged checkpoints; remove the folder to start from step 0")
        return None

    def save(self, step: int, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Save `tensors` (by group and name) and `state` as step `step`, in the background.

        Do not change the tensors until `wait` returns. If ranks hold pieces of any of them, all ranks call this. Waits
        for the previous save first, and raises its error if it failed.
        """
        self.wait()
        shared = {group for group, named in tensors.items() if any(map(is_shared, named.values()))}
        if shared and self._group is None:  # the writer runs beside training, so it needs a process group of its own
            self._group = torch.distributed.new_group(backend="gloo")
        save = partial(self._save_shards, shared) if shared else self._save
        self._saving = self._writer.submit(save, step, tensors, state)

    def wait(self) -> None:
        """Wait until nothing is being saved. Raises the error of a save that failed."""
        if self._saving is not None:
            saving, self._saving = self._saving, None
            saving.result()

    def clean(self) -> None:
        """Remove what a killed process left half written or half removed."""
        for path in self.folder.glob(f".{PREFIX}*"):
            shutil.rmtree(path)

    def _save(self, step: int, tensors: Tensors, state: Mapping[str, Any]) -> None:
        self._hidden(step).mkdir(parents=True)
        self._commit(step, self._write(step, tensors), state)

    def _write(self, step: int, tensors: Tensors) -> dict[str, str]:
        """Write a file for each group; returns their checksums."""
        checksums = {}
        for group, named in tensors.items():
            file = self._hidden(step) / f"{group}.safetensors"
            save_file(dict(named), file)
            checksums[file.name] = sha256(file)
            sync(file)
        return checksums

    def _save_shards(self, shared: set[str], step: int, tensors: Tensors, state: Mapping[str, Any]) -> None:
        """Each rank writes its pieces of the `shared` groups; the first one writes the other groups and commits."""
        assert self._workers is not None
        folders = {group: self._hidden(step) / group for group in tensors if group in shared}
        checksums: dict[str, str] = {}
        if self._workers.first:
            for folder in folders.values():
                folder.mkdir(parents=True)
            checksums |= self._write(step, {group: named for group, named in tensors.items() if group not in shared})
        torch.distributed.barrier(self._group)
        for group, folder in folders.items():
            written = shards.write(folder, tensors[group], self._group)
            checksums |= {f"{group}/{name}": digest for name, digest in written.items()}
        gathered: list[dict[str, str]] = [{} for _ in range(self._workers.world_size)]
        torch.distributed.all_gather_object(gathered, checksums, group=self._group)
        if self._workers.first:
            for folder in folders.values():
                sync(folder)
            self._commit(step, {name: digest for each in gathered for name, digest in each.items()}, state)
        torch.distributed.barrier(self._group)

    def _commit(self, step: int, checksums: Mapping[str, str], state: Mapping[str, Any]) -> None:
        """Write state and checksums, force them to disk, and rename the folder to its final name."""
        hidden = self._hidden(step)
        path = self.folder / f"{PREFIX}{step:08d}"
        (hidden / STATE).write_text(json.dumps(state, indent=2), encoding="utf-8")
        every = {**checksums, STATE: sha256(hidden / STATE)}
        (hidden / CHECKSUMS).write_text(json.dumps(every, indent=2), encoding="utf-8")
        mode = (hidden / STATE).stat().st_mode  # safetensors lets nobody but the owner read what it writes
        for file in hidden.rglob("*.safetensors"):
            file.chmod(mode)
        for file in (hidden / STATE, hidden / CHECKSUMS, hidden):
            sync(file)
        if path.exists():  # a damaged one: the run went on from an earlier one and has reached this step again
            remove_folder(path)
        hidden.rename(path)
        sync(self.folder)
        self._retire(step)

    def _hidden(self, step: int) -> Path:
        return self.folder / f".{PREFIX}{step:08d}.tmp"

    def _retire(self, step: int) -> None:
        """Remove all checkpoints up to `step`, which was saved just now, except the last `keep` and the best."""
        done = [checkpoint for checkpoint in self.all() if checkpoint.step <= step]
        kept = done[-self.keep :]
        if self.best:
            rated = [(metric, checkpoint.step) for checkpoint in done if (metric := checkpoint.metric()) is not None]
            kept += [checkpoint for checkpoint in done if rated and checkpoint.step == min(rated)[1]]
        for checkpoint in done:
            if checkpoint not in kept:
                remove_folder(checkpoint.path)


def _belongs(name: str, groups: Sequence[str]) -> bool:
    """Whether the file `name` of a checkpoint belongs to one of `groups`; any file does if there are none."""
    return not groups or any(name == f"{group}.safetensors" or name.startswith(f"{group}/") for group in groups)
