"""The one trainer: it plays the moves of an objective, whatever they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headrace.activation import Applied
from headrace.draws import Draws
from headrace.errors import RecipeError
from headrace.objectives.objective import Batch, Move, Objective
from headrace.ranks.pieces import Staging
from headrace.ranks.workers import Workers
from headrace.recipe.training import Training
from headrace.runs.checkpoints import Checkpoint
from headrace.training.network import Player, check_names
from headrace.training.parallel import Alone, share
from headrace.training.scale import LossScale
from headrace.training.schedule import LearningRate

Part = tuple[Batch, Draws]


class Turn:
    """One move with its players, on one rank."""

    def __init__(
        self,
        move: Move,
        players: Mapping[str, Player],
        ranks: Alone,
        autocast: torch.autocast,
        scale: LossScale,
        activations: Applied,
    ) -> None:
        self.move, self.scale = move, scale
        self.players = [players[name] for name in move.players]
        self._others = [player for name, player in players.items() if name not in move.players]
        self._ranks, self._autocast, self._activations = ranks, autocast, activations
        self._buffers = [b for player in players.values() for b in player.module.buffers()]

    def due(self, step: int) -> bool:
        """Whether the move is played in step `step` (from 1)."""
        return step >= self.move.first and step % self.move.every == 0

    def play(self, parts: Sequence[Part], rate: float, clip: float) -> tuple[dict[str, Tensor], Tensor]:
        """Gradients of the mean loss over equal `parts`, a step of each player, and what comes after.

        Returns this rank's figures, `loss` first, and whether the gradients were finite (a bool scalar). Where they
        were not nothing has changed: weights, averages of gradients and buffers are what they were.
        """
        before = [buffer.clone() for buffer in self._buffers]
        figures = self._backward(parts)
        norms = {}
        for player in self.players:
            gradients = player.take_gradients()
            self.scale.down(gradients)
            norms[player.name] = self._ranks.norm(gradients)
        finite = torch.stack([norm.isfinite() for norm in norms.values()]).all()
        for player in self.players:
            player.step(rate, clip, norms[player.name], finite)
            name = "grad_norm" if len(self.players) == 1 else f"grad_norm/{player.name}"
            figures[name] = norms[player.name].detach().float()
        with torch.no_grad():
            for buffer, value in zip(self._buffers, before, strict=True):
                buffer.copy_(torch.where(finite, buffer, value))
        self.scale.update(finite)
        if self.move.after is not None:
            self.move.after()
        return figures, finite

    def begin(self) -> None:
        """Turn gradients on for the move's players only."""
        for player in self.players:
            player.require_grad(True)
        for player in self._others:
            player.require_grad(False)

    def _backward(self, parts: Sequence[Part]) -> dict[str, Tensor]:
        self.begin()
        parameters = [p for player in self.players for p in player.parameters.values()]
        device = parameters[0].device
        totals: dict[str, Tensor] = {}
        for number, (batch, draws) in enumerate(parts, start=1):
            with (
                self._ranks.part(self.move.name, last=number == len(parts)),
                self._activations.watch(self.move.name, device, parameters),
            ):
                with self._autocast:
                    loss, figures = self._ranks.loss(self.move.name, batch, draws)
                self.scale.up(loss / len(parts)).backward()
            for name, value in {"loss": loss, **figures}.items():
                part = value.detach().float() / len(parts)
                totals[name] = totals[name] + part if name in totals else part
        return totals


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SCALES = "scales"


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

    The state between two steps is the players' (weights, averages, optimizers), the scale of the loss under fp16, and
    the number of steps done. Everything else is a function of these: the learning rate and all randomness of a step
    follow from the samples seen before it.
    """

    def __init__(
        self,
        objective: Objective,
        training: Training,
        batch_size: int,
        workers: Workers,
        activations: Applied | None = None,
    ) -> None:
        """`batch_size` is that of all ranks together; `activations` is what `activation.apply` gave for the players.

        Raises RecipeError if the batch cannot be shared out evenly or `training` names a player that is none.
        """
        self.training, self.batch_size, self.workers = training, batch_size, workers
        self.part = part_size(training, batch_size, workers)
        self.steps = 0
        check_names(training, objective.players)
        moves = {move.name: move for move in objective.moves()}
        self.ranks = share(moves, objective.players, training, workers)
        self.players = {name: Player(name, module, training) for name, module in objective.players.items()}
        precision = self.autocast_dtype = PRECISIONS[training.precision]
        self.autocast = torch.autocast(workers.device.type, precision, enabled=precision != torch.float32)
        self.scales = {name: LossScale(workers.device, precision == torch.float16) for name in moves}
        self.turns = [
            Turn(move, self.players, self.ranks, self.autocast, self.scales[name], activations or Applied())
            for name, move in moves.items()
        ]
        self.learning_rate = LearningRate(
            training.learning_rate, training.warmup * batch_size, training.steps * batch_size, training.decay
        )
        self._staging = Staging()

    def step(self, batch: Batch, stop: bool = False, seen: int | None = None, rate: float | None = None) -> StepFigures:
        """One step on this rank's share of the global batch (its samples rank, rank + world size, …).

        `stop` is this rank's wish to stop: the figure `stop` is the share of the ranks that have it. The figure
        `skipped` counts the moves whose gradients were not finite. `seen` and `rate` replace the samples seen before,
        which all randomness follows from, and the learning rate.
        """
        seen = self.steps * self.batch_size if seen is None else seen
        self._seed(seen)
        self.steps += 1
        samples = seen + self.batch_size
        rate = self.learning_rate(samples) if rate is None else rate
        parts = list(self.parts(batch, seen))
        figures: dict[str, Tensor] = {}
        skipped = torch.zeros((), device=self.workers.device)
        for turn in self.turns:
            if turn.due(self.steps):
                found, finite = turn.play(parts, rate, self.training.clip)
                figures |= found if len(self.turns) == 1 else {f"{turn.move.name}/{n}": v for n, v in found.items()}
                skipped += ~finite
        for player in self.players.values():
            player.ema.update(self.steps)
        losses = [value for name, value in figures.items() if name.split("/")[-1] == "loss"]
        figures = {"loss": torch.stack(losses).sum(), **figures}
        last = [skipped, torch.tensor(float(stop), device=self.workers.device)]
        values = self.workers.mean(torch.stack([*figures.values(), *last]))
        return StepFigures(self.steps, samples, rate, (*figures, "skipped", "stop"), values)

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """What the moves say of a step's figures, a line each."""
        said = [turn.move.watch(figures) for turn in self.turns if turn.move.watch is not None]
        return [line for line in said if line is not None]

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Copies of all tensors that the next step depends on, by group and name; the next call overwrites them."""
        groups = {
            group: named for player in self.players.values() for group, named in player.tensors(self._staging).items()
        }
        scales = {f"{n}/{k}": value for n, scale in self.scales.items() for k, value in scale.state_dict().items()}
        return {**groups, SCALES: self._staging.copies(SCALES, scales)}

    def load(self, checkpoint: Checkpoint) -> None:
        """Go on from `checkpoint`. Raises DataError if it is of another architecture."""
        for player in self.players.values():
            player.load(checkpoint)
        scales = checkpoint.tensors(SCALES)
        for name, scale in self.scales.items():
            scale.load_state_dict({key: scales[f"{name}/{key}"] for key in scale.state_dict()})
        self.steps = checkpoint.step

    def parts(self, batch: Batch, seen: int) -> Iterator[tuple[Batch, Draws]]:
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
