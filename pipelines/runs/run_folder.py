"""The folder of a run, which only the recipe that started the run may continue."""

import fcntl
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from headrace.errors import RecipeError
from headrace.files import write_text
from headrace.recipe import RunRecipe, load_run_recipe
from headrace.recipe.load import RUN_SECTIONS

FREE = {
    "data.cache",
    "data.cache_bytes",
    "data.prefetch",
    "data.threads",
    "data.timeout",
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
"""keys that may change between two starts of a run: they do not affect its numbers, or only extend it (steps)"""


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def recipe(self) -> Path:
        """The recipe with its overrides applied; `data.version` is the version that the run reads."""
        return self.path / "recipe.yaml"

    @property
    def tokenizer(self) -> Path:
        """The caption tokenizer."""
        return self.path / "tokenizer.json"

    @property
    def metrics(self) -> Path:
        """One JSON object for each step."""
        return self.path / "metrics.jsonl"

    @property
    def timings(self) -> Path:
        """One JSON object every few seconds: speed, waits, memory."""
        return self.path / "timings.jsonl"

    @property
    def checkpoints(self) -> Path:
        """One folder for each run checkpoint."""
        return self.path / "checkpoints"

    @property
    def board(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "tensorboard"

    def trace(self, rank: int) -> Path:
        """The trace of a profiled rank."""
        return self.path / "profile" / f"rank-{rank}.json"

    @staticmethod
    def digest(recipe: RunRecipe) -> str:
        """The SHA-256, in hexadecimal, of all keys of `recipe` that affect a run's numbers."""
        keys = {key: value for key, value in _keys(recipe) if key not in FREE}
        return hashlib.sha256(json.dumps(keys, sort_keys=True).encode()).hexdigest()

    @property
    def samples(self) -> Path:
        """Grids and single images."""
        return self.path / "samples"

    def load(self, overrides: tuple[str, ...] = ()) -> RunRecipe:
        """Read the run's recipe. Raises RecipeError if this is not the folder of a run."""
        if not self.recipe.is_file():
            raise RecipeError(f"{self.path}: found no recipe.yaml, expected the folder of a run")
        recipe = load_run_recipe(str(self.recipe), overrides)
        if "crop" not in recipe.data.model_fields_set:  # a run older than this key, which stretched its images
            return recipe.changed("data", crop="none")
        return recipe

    def agree(self, recipe: RunRecipe) -> RunRecipe:
        """Check that `recipe` may start or continue the run in this folder. Writes nothing.

        Returns `recipe` with the dataset version of the run, and with its precision in place of auto, if the run has
        started. Raises RecipeError if the folder holds something else, or a run whose recipe differs in a key outside
        `FREE`; the message names the key.
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
        started = self.load()
        if recipe.training.precision == "auto":
            recipe = recipe.changed("training", precision=started.training.precision)
        before, now = dict(_keys(started)), dict(_keys(recipe))
        for key in sorted(before.keys() | now.keys()):
            if key not in FREE and before.get(key) != now.get(key):
                raise RecipeError(
                    f"{key}: found {now.get(key)!r}, expected {before.get(key)!r} as in {self.recipe}; "
                    "choose another training.run to start another run"
                )
        version, found = started.data.version, recipe.data.version
        if found not in (None, version):
            raise RecipeError(f"data.version: found {found}, expected {version} as in {self.recipe}")
        return recipe.changed("data", version=version)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder against a second training process, and make it if needed. A killed process frees the lock.

        Raises RecipeError if another process holds the lock, or if the folder cannot be made.
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

    def write_recipe(self, recipe: RunRecipe) -> None:
        """Write the sections that `recipe` was given, with all their keys, unless the file already holds them."""
        sections = recipe.model_dump(mode="json", include=recipe.model_fields_set)
        text = yaml.safe_dump(sections, sort_keys=False, allow_unicode=True)
        if not self.recipe.exists() or self.recipe.read_text(encoding="utf-8") != text:
            write_text(self.recipe, text)


def _keys(recipe: RunRecipe) -> Iterator[tuple[str, Any]]:
    """The values of the sections that describe the run, by dotted key."""
    yield from _flat(recipe.model_dump(mode="json", include=set(RUN_SECTIONS)), "")


def _flat(section: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
