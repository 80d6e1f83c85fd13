"""A move as the trainer plays it: loss and backward pass over a rank's batch, gradients averaged over ranks, a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from pipelines.draws import Draws
from pipelines.objectives.game import Batch, Move
from pipelines.training.activation import Applied
from pipelines.training.parallel import Alone
from pipelines.training.player import Player
from pipelines.training.scale import LossScale

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
