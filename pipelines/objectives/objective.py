"""The interface between an objective and the trainer: networks to train, and the phases of a step.

The trainer runs the phases in order. For each it turns gradients on for the phase's networks only, runs the loss and
its backward pass, clips, steps the optimizers of those networks, and calls `after`. Diffusion has one phase and a GAN
two, and the trainer treats both alike.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from headrace.draws import Draws

Batch = Mapping[str, Tensor]
Loss = Callable[[Batch, Draws], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Phase:
    """A loss, and the networks that it trains.

    `loss(batch, draws)` returns the mean loss over the samples of this rank (a scalar) and figures to log (detached
    scalars). All of its randomness comes from `draws`.
    """

    name: str
    networks: tuple[str, ...]
    loss: Loss
    every: int = 1
    """the phase runs in steps whose number is divisible by this"""
    first: int = 1
    """the phase does not run before this step"""
    after: Callable[[], None] | None = None
    """called once the optimizer has stepped"""
    warn: Callable[[Mapping[str, float]], str | None] | None = None
    """takes each step's figures by their names in the metrics; returns a warning (one line) or None"""


class Objective(Protocol):
    """What is minimised."""

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The modules that are trained, by name; each has its own optimizer and EMA."""
        ...

    def phases(self) -> Sequence[Phase]:
        """The phases of a step, in order."""
        ...
