"""The one trainer: it plays the moves of an objective, whatever they are."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.draws import Draws
from pipelines.errors import RecipeError
from pipelines.objectives.game import Batch, Objective
from pipelines.recipe.training import Training
from pipelines.training.checkpoints import Checkpoint
from pipelines.training.player import Player
from pipelines.training.schedule import LearningRate
from pipelines.training.turn import Turn
from pipelines.training.workers import Workers

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class StepFigures:
    """The figures of one step, still on the device: reading them waits for the step."""

    step: int
    samples: int
    learning_rate: float
    names: tuple[str, ...]
    values: Tensor

    def read(self) -> dict[str, float | int]:
        """Wait for the step and return its figures."""
        figures = dict(zip(self.names, self.values.tolist(), strict=True))
        return {"step": self.step, "samples": self.samples, "learning_rate": self.learning_rate, **figures}


def part_size(training: Training, batch_size: int, workers: Workers) -> int:
    """The samples that go through a network at once on a rank. Raises RecipeError if they do not come out even."""
    share = workers.share(batch_size)
    if share % training.accumulate:
        expected = f"expected a divisor of a rank's {share} samples"
        raise RecipeError(f"training.accumulate: found {training.accumulate}, {expected}")
    return share // training.accumulate


class Trainer:
    """Plays an objective's moves, step after step.

    The state between two steps is the players' (weights, averages, optimizers) and the number of steps done. Everything
    else is a function of these: the learning rate and all randomness of a step follow from the samples seen before it.
    """

    def __init__(self, objective: Objective, training: Training, batch_size: int, workers: Workers) -> None:
        """`batch_size` is that of all ranks together. Raises RecipeError if it cannot be shared out evenly."""
        self.training, self.batch_size, self.workers = training, batch_size, workers
        self.part = part_size(training, batch_size, workers)
        self.steps = 0
        self.players = {name: Player(name, module, training) for name, module in objective.players.items()}
        self.turns = [Turn(move, self.players, workers) for move in objective.moves()]
        self.learning_rate = LearningRate(
            training.learning_rate, training.warmup * batch_size, training.steps * batch_size, training.decay
        )
        precision = PRECISIONS[training.precision]
        self._autocast = torch.autocast(workers.device.type, precision, enabled=precision != torch.float32)

    def step(self, batch: Batch, stop: bool = False) -> StepFigures:
        """One step on this rank's share of the global batch (its samples rank, rank + world size, …).

        `stop` is this rank's wish to stop: the figure `stop` is the share of the ranks that have it.
        """
        seen = self.steps * self.batch_size
        self._seed(seen)
        self.steps += 1
        samples = seen + self.batch_size
        rate = self.learning_rate(samples)
        parts = list(self._parts(batch, seen))
        figures: dict[str, Tensor] = {}
        for turn in self.turns:
            if turn.due(self.steps):
                figures |= self._play(turn, parts, rate)
        for player in self.players.values():
            player.ema.update(self.steps)
        losses = [value for name, value in figures.items() if name.split("/")[-1] == "loss"]
        figures = {"loss": torch.stack(losses).sum(), **figures}
        values = torch.stack([*figures.values(), torch.tensor(float(stop), device=self.workers.device)])
        names = (*figures, "stop")
        return StepFigures(self.steps, samples, rate, names, self.workers.mean(values))

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """What the moves say of a step's figures, a line each."""
        said = [turn.move.watch(figures) for turn in self.turns if turn.move.watch is not None]
        return [line for line in said if line is not None]

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Copies of all tensors that the next step depends on, by group and name."""
        return {group: named for player in self.players.values() for group, named in player.tensors().items()}

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`."""
        for name, player in self.players.items():
            groups = (name, f"{name}.ema", f"{name}.optimizer")
            player.load({group: checkpoint.tensors(group) for group in groups})
        self.steps = checkpoint.step

    def _play(self, turn: Turn, parts: Sequence[tuple[Batch, Draws]], rate: float) -> dict[str, Tensor]:
        figures = turn.backward(parts, self._autocast)
        for player in turn.players:
            norm = player.step(rate, self.training.clip)
            name = "grad_norm" if len(turn.players) == 1 else f"grad_norm/{player.name}"
            figures[name] = norm.detach().float()
        if turn.move.after is not None:
            turn.move.after()
        if len(self.turns) == 1:
            return figures
        return {f"{turn.move.name}/{name}": value for name, value in figures.items()}

    def _parts(self, batch: Batch, seen: int) -> Iterator[tuple[Batch, Draws]]:
        """The batch in `accumulate` equal parts, each with the draws of its samples."""
        workers = self.workers
        samples = torch.arange(seen + workers.rank, seen + self.batch_size, workers.world_size, device=workers.device)
        for start in range(0, len(samples), self.part):
            part = {name: tensor[start : start + self.part] for name, tensor in batch.items()}
            yield part, Draws(self.training.seed, samples[start : start + self.part], self.steps)

    def _seed(self, seen: int) -> None:
        """Seed torch's own generators (dropout) from the samples seen, so that their state need not be saved."""
        text = f"{self.training.seed}/{seen}/{self.workers.rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
