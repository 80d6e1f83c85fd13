"""Training as a game of players: what an objective tells the trainer.

An objective lists its players and, for every step, its moves. The trainer plays each move in order: it turns
gradients on for the move's players only, runs the loss and its backward pass, clips, steps the optimizer of those
players, and calls `after`. So diffusion has one move, a GAN two, and the trainer no ladder of ifs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from headrace.draws import Draws

Batch = Mapping[str, Tensor]
Loss = Callable[[Batch, Draws], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Move:
    """One player's turn.

    `loss(batch, draws)` returns the mean loss over the samples of this rank (a scalar) and figures to log (detached
    scalars). All of its randomness comes from `draws`.
    """

    name: str
    players: tuple[str, ...]
    loss: Loss
    every: int = 1
    """played on steps whose number is divisible by this"""
    first: int = 1
    """not played before this step"""
    after: Callable[[], None] | None = None
    """called once the optimizer has stepped"""
    watch: Callable[[Mapping[str, float]], str | None] | None = None
    """looks at each step's figures, under their names in the metrics; returns a line to warn with, or None"""


class Objective(Protocol):
    """What is minimised."""

    @property
    def players(self) -> Mapping[str, nn.Module]:
        """The modules that are trained, by name; each has its own optimizer and EMA."""
        ...

    def moves(self) -> Sequence[Move]:
        """The moves of a step, in order."""
        ...
