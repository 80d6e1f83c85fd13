"""A move as the trainer plays it: loss and backward pass over a rank's batch, gradients averaged over ranks."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pipelines.draws import Draws
from pipelines.objectives.game import Batch, Loss, Move
from pipelines.training.player import Player
from pipelines.training.workers import Workers


class MoveLoss(nn.Module):
    """A move's loss as a module whose parameters are the move's players.

    DistributedDataParallel wraps this rather than a network, so an objective may call any method of its networks, as
    often as it likes, and knows nothing of ranks.
    """

    def __init__(self, loss: Loss, players: Sequence[Player]) -> None:
        super().__init__()
        self.loss = loss
        self.players = nn.ModuleList(player.module for player in players)

    def forward(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss over the samples, and figures."""
        return self.loss(batch, draws)


class Turn:
    """One move with its players, on one rank."""

    def __init__(self, move: Move, players: dict[str, Player], workers: Workers) -> None:
        self.move = move
        self.players = [players[name] for name in move.players]
        self._others = [player for name, player in players.items() if name not in move.players]
        self._loss: Callable[..., tuple[Tensor, dict[str, Tensor]]] = MoveLoss(move.loss, self.players)
        self._ddp: DistributedDataParallel | None = None
        if workers.world_size > 1:
            self._loss = self._ddp = DistributedDataParallel(MoveLoss(move.loss, self.players))

    def due(self, step: int) -> bool:
        """Whether the move is played in step `step` (from 1)."""
        return step >= self.move.first and step % self.move.every == 0

    def backward(self, parts: Sequence[tuple[Batch, Draws]], autocast: torch.autocast) -> dict[str, Tensor]:
        """Accumulate the gradients of the mean loss over equal `parts`; returns this rank's figures, `loss` first."""
        for player in self.players:
            player.require_grad(True)
        for player in self._others:
            player.require_grad(False)
        totals: dict[str, Tensor] = {}
        for number, (batch, draws) in enumerate(parts, start=1):
            last = number == len(parts)
            with nullcontext() if last or self._ddp is None else self._ddp.no_sync():
                with autocast:
                    loss, figures = self._loss(batch, draws)
                (loss / len(parts)).backward()
            for name, value in {"loss": loss, **figures}.items():
                part = value.detach().float() / len(parts)
                totals[name] = totals[name] + part if name in totals else part
        return totals
