"""The folder of a run, and the rule that only the recipe that made it may go on in it."""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from headrace.errors import RecipeError
from headrace.files import write_text
from headrace.recipe import Recipe, load_recipe
from headrace.recipe.model import Model
from headrace.recipe.objective import Objective
from headrace.recipe.training import Data, Training

SECTIONS = ("data", "model", "objective", "training")
FREE = {
    "data.threads",
    "data.version",
    "training.run",
    "training.steps",
    "training.checkpoint_every",
    "training.keep",
    "training.keep_best",
    "training.max_skipped",
    "training.sample_every",
    "training.evaluate_every",
    "training.evaluate_samples",
    "training.tensorboard",
    "training.parallel",
    "training.shard",
    "training.activation",
    "training.segment",
}
"""keys that a run may change when it goes on: its numbers do not depend on them, or (steps) it only gets longer"""


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe with its overrides; `data.version` is the version that the run reads."""
        return self.path / "recipe.yaml"

    @property
    def tokenizer(self) -> Path:
        """The caption tokenizer."""
        return self.path / "tokenizer.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a step."""
        return self.path / "metrics.jsonl"

    @property
    def timings(self) -> Path:
        """One JSON object now and then: speed, waits, memory."""
        return self.path / "timings.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder for each run checkpoint."""
        return self.path / "checkpoints"

    @property
    def board(self) -> Path:
        """TensorBoard's files."""
        return self.path / "tensorboard"

    def trace(self, rank: int) -> Path:
        """The trace of a profiled rank."""
        return self.path / "profile" / f"rank-{rank}.json"

    def digest(self, recipe: Recipe) -> str:
        """The SHA-256 of all keys of `recipe` that a run's numbers depend on."""
        keys = {key: value for key, value in _keys(recipe) if key not in FREE}
        return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()

    @property
    def samples(self) -> Path:
        """Pictures."""
        return self.path / "samples"

    def load(self, needs: tuple[str, ...] = (), overrides: tuple[str, ...] = ()) -> Recipe:
        """The run's recipe. Raises RecipeError if this is no run folder."""
        if not self.recipe.is_file():
            raise RecipeError(f"{self.path}: found no recipe.yaml, expected the folder of a run")
        return load_recipe(str(self.recipe), overrides, needs)

    def agree(self, recipe: Recipe) -> Recipe:
        """Check that `recipe` may start or go on with the run in this folder; nothing is written.

        Returns `recipe` with the dataset version that the run started with, if it has started, and with its precision
        where `recipe` says auto. Raises RecipeError if
        the folder holds something else, or a run whose recipe differs in a key that matters; the key is named.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RecipeError(f"training.run: found a file at {self.path}, expected a run folder or nothing")
        if not self.recipe.exists():
            others = [path.name for path in self.path.glob("*") if not path.name.startswith(".")]
            if others:
                raise RecipeError(
                    f"training.run: found {others[0]} in {self.path}, expected a run's folder or an empty one"
                )
            return recipe
        started = self.load(SECTIONS)
        if sections(recipe).training.precision == "auto":
            recipe = with_precision(recipe, sections(started).training.precision)
        before, now = dict(_keys(started)), dict(_keys(recipe))
        for key in sorted(before.keys() | now.keys()):
            if key not in FREE and before.get(key) != now.get(key):
                raise RecipeError(
                    f"{key}: found {now.get(key)!r}, expected {before.get(key)!r} as in {self.recipe}; "
                    "take another training.run for another run"
                )
        version, asked = sections(started).data.version, sections(recipe).data.version
        if asked not in (None, version):
            raise RecipeError(f"data.version: found {asked}, expected {version} as in {self.recipe}")
        return with_version(recipe, version)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder, which is made if need be, so that no second process trains in it; a kill lets go of it.

        Raises RecipeError if another process holds it.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            found = f"found {self.path}, expected a folder that can be made"
            raise RecipeError(f"training.run: {found}: {error.strerror}") from None
        with (self.path / ".lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found = f"found another process that trains in {self.path}"
                raise RecipeError(f"training.run: {found}, expected none") from None
            yield

    def write_recipe(self, recipe: Recipe) -> None:
        """Store `recipe`, unless it is stored already."""
        text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
        if not self.recipe.exists() or self.recipe.read_text(encoding="utf-8") != text:
            write_text(self.recipe, text)


class Sections(NamedTuple):
    """The sections that a run cannot do without."""

    data: Data
    model: Model
    objective: Objective
    training: Training


def sections(recipe: Recipe) -> Sections:
    """The sections of a run, all there. Raises RecipeError if one is missing."""
    found = {name: getattr(recipe, name) for name in SECTIONS}
    for name, section in found.items():
        if section is None:
            raise RecipeError(f"{name}: found nothing, expected this section")
    return Sections(**found)


def with_version(recipe: Recipe, version: int | None) -> Recipe:
    """`recipe` with `data.version` set."""
    return recipe.model_copy(update={"data": sections(recipe).data.model_copy(update={"version": version})})


def with_precision(recipe: Recipe, precision: str) -> Recipe:
    """`recipe` with `training.precision` set."""
    training = sections(recipe).training.model_copy(update={"precision": precision})
    return recipe.model_copy(update={"training": training})


def _keys(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    """The values that must not change, by dotted key."""
    dumped = recipe.model_dump(mode="json", include=set(SECTIONS))
    yield from _flat(dumped, "")


def _flat(section: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
