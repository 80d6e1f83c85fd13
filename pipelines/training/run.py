"""A run from its recipe to its last step: start it, or go on with it exactly where it was."""

import functools
import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from deltalake import DeltaTable

from pipelines.errors import RecipeError
from pipelines.loading import ShardLoader
from pipelines.models.tokens import CaptionTokenizer
from pipelines.progress import progress
from pipelines.recipe import Recipe
from pipelines.recipe.text import FrozenText
from pipelines.training import activation, data, systems
from pipelines.training.checkpoints import Checkpoint, Checkpoints
from pipelines.training.files import write_text
from pipelines.training.metrics import MetricsFile
from pipelines.training.preemption import Preempted, StopRequest, stop_request
from pipelines.training.run_folder import RunFolder, sections, with_version
from pipelines.training.timing import Timing
from pipelines.training.trainer import StepFigures, Trainer, part_size
from pipelines.training.workers import Workers


class Diverged(RuntimeError):
    """A figure of a step is no longer a finite number."""


class Run:
    """One rank's part in a run. Every rank builds it from the same recipe and the same folder."""

    def __init__(
        self,
        recipe: Recipe,
        folder: RunFolder,
        workers: Workers,
        loader: ShardLoader,
        checkpoint: Checkpoint | None,
    ) -> None:
        """`recipe` has all sections of a run, and its dataset's version; `loader` loads that."""
        of = sections(recipe)
        self.folder, self.workers, self.training = folder, workers, of.training
        torch.manual_seed(of.training.seed)
        system = systems.of(recipe)
        objective = system.objective(of, folder, workers.device)
        report = functools.partial(print, file=sys.stderr) if workers.first else lambda text: None
        for network in objective.players.values():
            activation.apply(network, of.training.activation, every=of.training.segment, report=report)
        self.trainer = Trainer(objective, of.training, of.data.batch_size, workers)
        self.loader = loader
        tokenizer = None if system.text(of) is None else CaptionTokenizer.load(folder.tokenizer)
        self.collate = data.Collator(of.data, tokenizer, workers.device)
        self.checkpoints = Checkpoints(folder.checkpoints, of.training.keep)
        self.metrics = MetricsFile(folder.metrics)
        self.timing = Timing(folder.timings if workers.first else None, workers.device)
        self._unread: StepFigures | None = None
        if checkpoint is not None:
            self.trainer.load(checkpoint)
            self.loader.load_state_dict(checkpoint.state()["loader"])

    def train(self) -> None:
        """Play the steps that are left. Raises Preempted after SIGTERM, Diverged if a figure is no longer finite."""
        first, steps = self.workers.first, self.training.steps
        if first:
            self.checkpoints.clean()
            self.metrics.truncate(self.trainer.steps)
        with stop_request() as request, progress("train", steps, shown=first) as bar:
            bar.advance(self.trainer.steps)
            batches = iter(self.loader)
            while self.trainer.steps < steps:
                stopped = self._one_step(next_batch(self.timing, batches), request)
                bar.advance(1, **self.timing.shown())
                if self.trainer.steps % self.training.checkpoint_every == 0 or self.trainer.steps == steps or stopped:
                    stopped = self._save() or stopped
                if stopped and self.trainer.steps < steps:
                    self._finish()
                    raise Preempted
        self._finish()

    def _one_step(self, raw: dict[str, Any], request: StopRequest) -> bool:
        """Play one step and read the figures of the one before it, so that a GPU always has work waiting."""
        figures = self.trainer.step(self.collate(raw), request.made)
        stopped = self._read()
        self._unread = figures
        return stopped

    def _read(self) -> bool:
        """Log the figures not yet read; returns whether a rank wishes to stop (all ranks read the same)."""
        if self._unread is None:
            return False
        figures, self._unread = self._unread.read(), None
        stop = figures.pop("stop") > 0
        for name, value in figures.items():
            if not math.isfinite(value):
                raise Diverged(
                    f"step {figures['step']}: {name} is {value}; every checkpoint is of a step before it. "
                    "A lower training.learning_rate or a longer training.warmup may help, in another training.run"
                )
        self.timing.step(int(figures["step"]), figures["loss"], self.trainer.batch_size)
        if self.workers.first:
            self.metrics.write(figures)
            for line in self.trainer.warnings(figures):
                print(f"headrace: step {figures['step']}: {line}", file=sys.stderr)
        return stop

    def _save(self) -> bool:
        """Save in the background, once the figures up to this step are known to be finite and on disk."""
        stopped = self._read()
        with self.timing.saving():
            if self.workers.first:
                self.metrics.sync()
                state = {"step": self.trainer.steps, "loader": self.loader.state_dict(), "torch": torch.__version__}
                self.checkpoints.save(self.trainer.steps, self.trainer.tensors(), state)
        return stopped

    def _finish(self) -> None:
        self.checkpoints.wait()
        self.workers.barrier()
        self.metrics.close()
        self.timing.close()


def next_batch(timing: Timing, batches: Any) -> dict[str, Any]:
    """The next batch, with the time spent waiting for it counted."""
    with timing.waiting():
        return next(batches)


def run(recipe: Recipe, workers: Workers) -> RunFolder:
    """Start the run that `recipe` describes, or go on with it; returns its folder once the last step is saved.

    Raises RecipeError or DataError before anything is written if the folder belongs to another run or the data is not
    there; see `Run.train` for the rest.
    """
    of = sections(recipe)
    folder = RunFolder(Path(of.training.run))
    recipe = folder.agree(recipe)
    systems.check(recipe)
    part_size(of.training, of.data.batch_size, workers)
    if _finished(folder, of.training.steps):
        if workers.first:
            folder.write_recipe(recipe)
            print(f"{folder.path}: finished at step {of.training.steps}; nothing to do", file=sys.stderr)
        return folder
    table = data.table(sections(recipe).data)
    recipe = with_version(recipe, table.version())
    of = sections(recipe)
    loader = data.loader(of.data, systems.of(recipe).image_shape(of), of.training.seed, workers)
    workers.barrier()
    with folder.held() if workers.first else nullcontext():
        if workers.first:
            _prepare(recipe, folder, table)
        workers.barrier()
        Run(recipe, folder, workers, loader, Checkpoints(folder.checkpoints).newest()).train()
    return folder


def _finished(folder: RunFolder, steps: int) -> bool:
    """Whether the run's last step is saved. Raises RecipeError if the run has gone further than `steps`."""
    checkpoints = Checkpoints(folder.checkpoints)
    if not any(checkpoint.step >= steps for checkpoint in checkpoints.all()):
        return False
    newest = checkpoints.newest()
    if newest is not None and newest.step > steps:
        raise RecipeError(f"training.steps: found {steps}, expected at least the {newest.step} steps done")
    return newest is not None and newest.step == steps


def _prepare(recipe: Recipe, folder: RunFolder, table: DeltaTable) -> None:
    """Write the recipe, and learn the tokenizer or copy it from another run unless an earlier start did."""
    of = sections(recipe)
    folder.write_recipe(recipe)
    text = systems.of(recipe).text(of)
    if text is None or folder.tokenizer.exists():
        return
    if isinstance(text, Path):
        write_text(folder.tokenizer, text.read_text(encoding="utf-8"))
    elif isinstance(text, FrozenText):
        data.copy_tokenizer(text, folder.tokenizer)
    else:
        data.train_tokenizer(table, of.data, text.vocabulary, text.length, folder.tokenizer)
