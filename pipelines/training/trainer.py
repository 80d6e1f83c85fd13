"""The trainer, which runs the phases of any objective."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headrace.activation import Applied
from headrace.draws import Draws
from headrace.errors import RecipeError
from headrace.objectives.objective import Batch, Objective, Phase
from headrace.ranks.pieces import Staging
from headrace.ranks.workers import Workers
from headrace.recipe.training import Training
from headrace.runs.checkpoints import Checkpoint
from headrace.training.network import Network, check_names
from headrace.training.parallel import SingleDevice, share
from headrace.training.precision import LossScale
from headrace.training.schedule import LearningRate

Part = tuple[Batch, Draws]


class PhaseStep:
    """One phase and its networks, on one rank."""

    def __init__(
        self,
        phase: Phase,
        networks: Mapping[str, Network],
        ranks: SingleDevice,
        autocast: torch.autocast,
        scale: LossScale,
        activations: Applied,
    ) -> None:
        self.phase, self.scale = phase, scale
        self.networks = [networks[name] for name in phase.networks]
        self._others = [network for name, network in networks.items() if name not in phase.networks]
        self._ranks, self._autocast, self._activations = ranks, autocast, activations
        self._buffers = [b for network in networks.values() for b in network.module.buffers()]

    def due(self, step: int) -> bool:
        """Whether the phase runs in step `step` (from 1)."""
        return step >= self.phase.first and step % self.phase.every == 0

    def run(self, parts: Sequence[Part], rate: float, clip: float) -> tuple[dict[str, Tensor], Tensor]:
        """Backpropagate the mean loss over equal `parts`, step each network, and call the phase's `after`.

        Returns this rank's figures, `loss` first, and whether the gradients were finite (a bool scalar). If not,
        weights, moments and buffers keep their values.
        """
        before = [buffer.clone() for buffer in self._buffers]
        figures = self._backward(parts)
        norms = {}
        for network in self.networks:
            gradients = network.take_gradients()
            self.scale.down(gradients)
            norms[network.name] = self._ranks.norm(gradients)
        finite = torch.stack([norm.isfinite() for norm in norms.values()]).all()
        for network in self.networks:
            network.step(rate, clip, norms[network.name], finite)
            name = "grad_norm" if len(self.networks) == 1 else f"grad_norm/{network.name}"
            figures[name] = norms[network.name].detach().float()
        with torch.no_grad():
            for buffer, value in zip(self._buffers, before, strict=True):
                buffer.copy_(torch.where(finite, buffer, value))
        self.scale.update(finite)
        if self.phase.after is not None:
            self.phase.after()
        return figures, finite

    def begin(self) -> None:
        """Enable gradients for the phase's networks only."""
        for network in self.networks:
            network.require_grad(True)
        for network in self._others:
            network.require_grad(False)

    def _backward(self, parts: Sequence[Part]) -> dict[str, Tensor]:
        self.begin()
        parameters = [p for network in self.networks for p in network.parameters.values()]
        device = parameters[0].device
        totals: dict[str, Tensor] = {}
        for number, (batch, draws) in enumerate(parts, start=1):
            with (
                self._ranks.part(self.phase.name, last=number == len(parts)),
                self._activations.measure(self.phase.name, device, parameters),
            ):
                with self._autocast:
                    loss, figures = self._ranks.loss(self.phase.name, batch, draws)
                self.scale.up(loss / len(parts)).backward()
            for name, value in {"loss": loss, **figures}.items():
                part = value.detach().float() / len(parts)
                totals[name] = totals[name] + part if name in totals else part
        return totals


PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SCALES = "scales"


@dataclass(frozen=True)
class StepFigures:
    """The figures of one step, still on the device. Reading them waits for the step."""

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
    """The samples that a rank runs through a network at once. Raises RecipeError if they do not divide the batch."""
    share = workers.share(batch_size)
    if share % training.accumulate:
        expected = f"expected a divisor of a rank's {share} samples"
        raise RecipeError(f"training.accumulate: found {training.accumulate}, {expected}")
    return share // training.accumulate


class Trainer:
    """Runs an objective's phases, step after step.

    The state between two steps is that of the networks (weights, averages, optimizers), the scale of the loss under
    fp16, and the number of steps done. The learning rate and all randomness of a step are functions of the samples seen
    before it.
    """

    def __init__(
        self,
        objective: Objective,
        training: Training,
        batch_size: int,
        workers: Workers,
        activations: Applied | None = None,
    ) -> None:
        """`batch_size` counts all ranks; `activations` is what `activation.apply` returned for the networks.

        `training.precision` must not be auto: see `precision.resolve`.

        Raises RecipeError if the batch does not divide evenly over ranks and parts, or if `training.networks` names a
        network that the objective does not have.
        """
        self.training, self.batch_size, self.workers = training, batch_size, workers
        self.part = part_size(training, batch_size, workers)
        self.steps = 0
        check_names(training, objective.networks)
        phases = {phase.name: phase for phase in objective.phases()}
        self.ranks = share(phases, objective.networks, training, workers)
        self.networks = {name: Network(name, module, training) for name, module in objective.networks.items()}
        precision = self.autocast_dtype = PRECISIONS[training.precision]
        self.autocast = torch.autocast(workers.device.type, precision, enabled=precision != torch.float32)
        self.scales = {name: LossScale(workers.device, precision == torch.float16) for name in phases}
        self.phase_steps = [
            PhaseStep(phase, self.networks, self.ranks, self.autocast, self.scales[name], activations or Applied())
            for name, phase in phases.items()
        ]
        self.learning_rate = LearningRate(
            training.learning_rate, training.warmup * batch_size, training.steps * batch_size, training.decay
        )
        self._staging = Staging()

    def step(self, batch: Batch, stop: bool = False, seen: int | None = None, rate: float | None = None) -> StepFigures:
        """Run one step on this rank's share of the global batch (its samples rank, rank + world size, …).

        `stop` says whether this rank has a stop request; the figure `stop` is the fraction of ranks that have one. The
        figure `skipped` counts the phases with non-finite gradients. `seen` overrides the number of samples seen
        before, which determines all randomness. `rate` overrides the learning rate.
        """
        seen = self.steps * self.batch_size if seen is None else seen
        self._seed(seen)
        self.steps += 1
        samples = seen + self.batch_size
        rate = self.learning_rate(samples) if rate is None else rate
        parts = list(self.parts(batch, seen))
        figures: dict[str, Tensor] = {}
        skipped = torch.zeros((), device=self.workers.device)
        for step in self.phase_steps:
            if step.due(self.steps):
                found, finite = step.run(parts, rate, self.training.clip)
                figures |= (
                    found if len(self.phase_steps) == 1 else {f"{step.phase.name}/{n}": v for n, v in found.items()}
                )
                skipped += ~finite
        for network in self.networks.values():
            network.ema.update(self.steps)
        losses = [value for name, value in figures.items() if name.split("/")[-1] == "loss"]
        figures = {"loss": torch.stack(losses).sum(), **figures}
        last = [skipped, torch.tensor(float(stop), device=self.workers.device)]
        values = self.workers.mean(torch.stack([*figures.values(), *last]))
        return StepFigures(self.steps, samples, rate, (*figures, "skipped", "stop"), values)

    def warnings(self, figures: Mapping[str, float]) -> list[str]:
        """The warnings of the phases about a step's figures, one line each."""
        lines = [step.phase.warn(figures) for step in self.phase_steps if step.phase.warn is not None]
        return [line for line in lines if line is not None]

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """Copies of all tensors that the next step depends on, by group and name. The next call overwrites them."""
        groups = {
            group: named
            for network in self.networks.values()
            for group, named in network.tensors(self._staging).items()
        }
        scales = {f"{n}/{k}": value for n, scale in self.scales.items() for k, value in scale.state_dict().items()}
        return {**groups, SCALES: self._staging.copies(SCALES, scales)}

    def load(self, checkpoint: Checkpoint) -> None:
        """Resume from `checkpoint`. Raises DataError if the checkpoint is of another architecture."""
        for network in self.networks.values():
            network.load(checkpoint)
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
        """Seed torch's generators (for dropout) from the samples seen: checkpoints need not hold their state."""
        text = f"{self.training.seed}/{seen}/{self.workers.rank}"
        torch.manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))
