"""A run from its recipe to its last step: start it, or resume it exactly."""

import math
import sys
from collections.abc import Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch

from headrace.errors import DataError, RecipeError
from headrace.loading import ShardLoader
from headrace.progress import progress
from headrace.ranks.workers import Workers
from headrace.recipe import RunRecipe
from headrace.runs import data
from headrace.runs.checkpoints import METRIC, Checkpoint, Checkpoints
from headrace.runs.metrics import MetricsFile
from headrace.runs.run_folder import RunFolder
from headrace.runs.tokenizer import write_tokenizer
from headrace.systems import System, system_for
from headrace.training import flops, memory, parallel, precision, setup, validation
from headrace.training.board import Board
from headrace.training.gallery import Gallery
from headrace.training.preemption import Preempted, StopRequest, stop_request
from headrace.training.streak import Streak
from headrace.training.timing import Timing, trace
from headrace.training.trainer import StepFigures, part_size


class Run:
    """One rank's part of a run. Every rank builds it from the same system and the same folder."""

    def __init__(
        self,
        system: System,
        folder: RunFolder,
        workers: Workers,
        loader: ShardLoader,
        checkpoint: Checkpoint | None,
    ) -> None:
        """`loader` reads the dataset version that the system's recipe names."""
        training = system.recipe.training
        self.system, self.folder, self.workers, self.training = system, folder, workers, training
        self.trainer = setup.trainer(system, folder, workers)
        self.loader, self.collate = loader, setup.collator(system, folder, workers)
        self.checkpoints = Checkpoints(folder.checkpoints, training.keep, training.keep_best, workers)
        self.metrics = MetricsFile(folder.metrics)
        self.timing = Timing(folder.timings if workers.first else None, workers.device)
        self.streak = Streak(training.max_skipped, folder.checkpoints)
        self.validation = self._validation()
        self.gallery = self._gallery()
        self._digest = folder.digest(system.recipe)
        self._unread: StepFigures | None = None
        self._losses: list[float] = []
        self._evaluated: float | None = None
        if checkpoint is not None:
            self._load(checkpoint)
        self.board = Board(folder.board, self.trainer.steps) if workers.first and training.tensorboard else None

    def train(self, profiled: bool = False) -> None:
        """Run the remaining steps. `profiled` writes a trace of a few of them.

        Raises Preempted after SIGTERM, Diverged after too many bad steps in a row, and RecipeError if the first batch
        does not fit into memory.
        """
        first, steps = self.workers.first, self.training.steps
        if first:
            self.checkpoints.clean()
            self.metrics.truncate(self.trainer.steps)
            print(f"{self.folder.path}: training in {self.training.precision}", file=sys.stderr)
        with ExitStack() as stack:
            request = stack.enter_context(stop_request())
            tracer = stack.enter_context(trace(self.folder.trace(self.workers.rank))) if profiled else None
            bar = stack.enter_context(progress("train", steps, shown=first))
            bar.advance(self.trainer.steps)
            batches = iter(self.loader)
            fresh = True
            while self.trainer.steps < steps:
                raw = next_batch(self.timing, batches)
                with memory.fits(self.system.recipe.data, self.training) if fresh else nullcontext():
                    stopped = self._one_step(raw, request, fresh)
                if fresh and first:
                    self._say_if_stretched()
                fresh = False
                stopped = self._between(stopped)
                bar.advance(1, **self.timing.shown(steps - self.trainer.steps))
                if tracer is not None:
                    tracer.step()
                if stopped and self.trainer.steps < steps:
                    self._finish()
                    raise Preempted
        self._finish()

    def _one_step(self, raw: dict[str, Any], request: StopRequest, fresh: bool) -> bool:
        """Run one step. The figures of the previous one are read only after that, so a GPU always has work queued.

        Returns whether a rank has a stop request.
        """
        batch = self.collate(raw)
        if fresh and self.workers.device.type == "cuda":
            name = torch.cuda.get_device_name(self.workers.device)
            self.timing.counts(flops.per_step(self.trainer, batch), flops.peak(name, self.trainer.autocast_dtype))
        figures = self.trainer.step(batch, request.made)
        stopped = self._read()
        self._unread = figures
        return stopped

    def _between(self, stopped: bool) -> bool:
        """Evaluate, save and draw, if they are due after this step. Returns whether a rank has a stop request."""
        step, steps, training = self.trainer.steps, self.training.steps, self.training
        if self.validation is not None and (step % training.evaluate_every == 0 or step == steps):  # type: ignore[operator]
            with self.timing.evaluating():
                figures = self.validation.figures()
            self._evaluated = figures["evaluation/loss"]
            stopped = self._read(figures) or stopped
        draws = training.sample_every is not None and (step % training.sample_every == 0 or step == steps)
        if step % training.checkpoint_every == 0 or step == steps or stopped or draws:
            stopped = self._read() or stopped
            if not self.streak.length or step == steps or stopped:  # a bad checkpoint must not replace a good one
                self._save()
        if draws:
            with self.timing.evaluating():
                self._draw()
        return stopped

    def _read(self, more: Mapping[str, float] | None = None) -> bool:
        """Log the unread figures, and `more`. Returns whether a rank has a stop request, the same on all ranks."""
        if self._unread is None:
            return False
        read, self._unread = self._unread.read(), None
        stop, skipped = read.pop("stop") > 0, read.pop("skipped") > 0
        figures = {name: value if math.isfinite(value) else None for name, value in {**read, **(more or {})}.items()}
        loss = figures["loss"]
        if loss is not None:
            self._losses.append(loss)
        self.timing.step(int(read["step"]), loss, self.trainer.batch_size)
        if self.workers.first:
            self.metrics.write({**figures, "skipped": 1} if skipped else figures)
            if self.board is not None:
                self.board.write(figures)
            for line in self.trainer.warnings(read):
                print(f"headrace: step {read['step']}: {line}", file=sys.stderr)
        self.streak.update(int(read["step"]), skipped, [n for n, v in figures.items() if v is None], self.workers.first)
        return stop

    def _save(self) -> None:
        """Flush the figures up to this step to disk, then save a checkpoint in the background."""
        state = {
            "step": self.trainer.steps,
            "loader": self.loader.state_dict(),
            "skipped_in_row": self.streak.length,
            "recipe": self._digest,
            "torch": torch.__version__,
            METRIC: self._metric(),
        }
        with self.timing.saving():
            self.checkpoints.wait()
            if self.workers.first:
                self.metrics.sync()
                if self.board is not None:
                    self.board.flush()
            if self.workers.first or self.trainer.ranks.shares_weights:
                self.checkpoints.save(self.trainer.steps, self.trainer.tensors(), state)
        self._losses.clear()

    def _metric(self) -> float | None:
        """The loss that ranks checkpoints: that of the last evaluation, or the mean of training since the last save."""
        if self.validation is not None:
            return self._evaluated
        return sum(self._losses) / len(self._losses) if self._losses else None

    def _load(self, checkpoint: Checkpoint) -> None:
        state = checkpoint.state()
        if state.get("recipe") != self._digest:
            raise DataError(f"{checkpoint.path}: found the checkpoint of another recipe, expected {self.folder.recipe}")
        self.trainer.load(checkpoint)
        self.loader.load_state_dict(state["loader"])
        self.streak.length = int(state["skipped_in_row"])
        if self.validation is not None:
            self._evaluated = state[METRIC]

    def _draw(self) -> None:
        self.checkpoints.wait()
        if self.gallery is not None:
            path = self.gallery.draw(self.trainer.steps)
            if self.board is not None:
                self.board.picture(path, self.trainer.steps)
        self.workers.barrier()

    def _validation(self) -> validation.Validation | None:
        if self.training.evaluate_every is None:
            return None
        batches = validation.loader(self.system, self.trainer.part, self.workers)
        return validation.Validation(self.trainer, batches, self.collate)

    def _gallery(self) -> Gallery | None:
        if self.training.sample_every is None or not self.workers.first:
            return None
        return Gallery(self.system, self.folder, self.workers.device, self.trainer.part)

    def _say_if_stretched(self) -> None:
        stats = self.loader.stats
        if stats.stretched:
            found = f"{stats.stretched:,} of the first {stats.images:,} images have another shape than the run's"
            print(f"{self.folder.path}: {found} and are stretched, as data.crop: none says", file=sys.stderr)

    def _say_what_was_replaced(self) -> None:
        """Print how many bad images all ranks have replaced, and the first one of this rank."""
        workers, bad = self.workers, self.loader.stats.bad_samples
        count = torch.tensor(float(sum(self.loader.stats.bad.values())), device=workers.device)
        replaced = round(float(workers.mean(count)) * workers.world_size)
        if replaced and workers.first:
            shown = f", such as {bad[0]}" if bad else ""
            print(f"{self.folder.path}: {replaced:,} bad images were replaced{shown}", file=sys.stderr)

    def _finish(self) -> None:
        self._say_what_was_replaced()
        self.checkpoints.wait()
        self.workers.barrier()
        self.metrics.close()
        self.timing.close()
        if self.board is not None:
            self.board.close()


def next_batch(timing: Timing, batches: Any) -> dict[str, Any]:
    """The next batch. `timing` counts the wait for it."""
    with timing.waiting():
        return next(batches)


def run(recipe: RunRecipe, workers: Workers, profiled: bool = False) -> RunFolder:
    """Start or resume the run that `recipe` describes. Returns its folder once the last step is saved.

    Raises RecipeError or DataError, before anything is written, if the folder belongs to another run or the data is
    missing. `Run.train` lists the other errors.
    """
    training = recipe.training
    folder = RunFolder(Path(training.run))
    recipe = folder.agree(recipe)
    if _finished(folder, training.steps):
        if workers.first:
            folder.write_recipe(recipe)
            print(f"{folder.path}: finished at step {training.steps}; nothing to do", file=sys.stderr)
        return folder
    recipe = precision.resolve(recipe, workers)
    system, loader = open_run(recipe, workers)
    workers.barrier()
    with folder.held() if workers.first else nullcontext():
        if workers.first:
            prepare(system, folder)
        workers.barrier()
        Run(system, folder, workers, loader, Checkpoints(folder.checkpoints).newest()).train(profiled)
    return folder


def open_run(recipe: RunRecipe, workers: Workers) -> tuple[System, ShardLoader]:
    """The system of a run and this rank's loader. The system's recipe names the version of the dataset.

    Raises RecipeError if the recipe is wrong or a batch cannot fit into memory. Writes nothing.
    """
    part_size(recipe.training, recipe.data.batch_size, workers)
    parallel.check(recipe.training, workers)
    system = system_for(recipe.changed("data", version=data.version_of(recipe.data)))
    system.check()
    recipe = system.recipe
    memory.check(recipe.data, system.image_shape, workers)
    return system, data.loader(recipe.data, system.image_shape, recipe.training.seed, workers)


def prepare(system: System, folder: RunFolder) -> None:
    """Write the recipe and, unless an earlier start of the run did, the tokenizer."""
    folder.write_recipe(system.recipe)
    if system.text is not None and not folder.tokenizer.exists():
        write_tokenizer(folder.tokenizer, system.text, system.recipe.data)


def _finished(folder: RunFolder, steps: int) -> bool:
    """Whether the last step is saved. Raises RecipeError if the run has gone beyond `steps`."""
    checkpoints = Checkpoints(folder.checkpoints)
    if not any(checkpoint.step >= steps for checkpoint in checkpoints.all()):
        return False
    newest = checkpoints.newest()
    if newest is not None and newest.step > steps:
        raise RecipeError(f"training.steps: found {steps}, expected at least the {newest.step} steps done")
    return newest is not None and newest.step == steps
