"""The chain of a model's blocks while it runs: which call belongs to which segment.

Segments need no loop of their own. Each block's `forward` is called by whoever calls it; a call whose input is the very
tensor that the block before it returned is chained to that call, so the two can be computed again as one segment.
Anything else that a block takes (embeddings, skips, masks) is stored as it is. Where calls are not chained, a segment
simply ends.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from pipelines.training.activation.extend import Extended, extend
from pipelines.training.activation.plan import Plan
from pipelines.training.activation.recompute import Frame


class Chain:
    """The plan for a model's blocks, and the frame that the forward pass is filling. Holds no module."""

    def __init__(self, plan: Plan) -> None:
        self._open: weakref.ref[Frame] | None = None
        self.follow(plan)

    def follow(self, plan: Plan) -> None:
        """Go by `plan` from the next forward pass on."""
        self.plan = plan
        self._segments = plan.segments()

    def call(self, index: int, block: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run block `index`, keeping of it what the plan says."""
        segment = self._segments.get(index)
        if segment is None or not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        frame = self._open() if self._open is not None else None
        if frame is None or not frame.goes_on(index, segment, args, kwargs):
            frame = Frame(segment)
            self._open = weakref.ref(frame)
        return frame.run(index, block, forward, args, kwargs)


class Checkpointed(Extended):
    """A block whose forward goes through the chain."""

    _chain: Chain
    _place: int

    @torch.compiler.disable
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's own forward, as the plan says."""
        return self._chain.call(self._place, self, super().forward, args, kwargs)


def attach(blocks: Sequence[nn.Module], chain: Chain) -> None:
    """Let `blocks` run through `chain`, in place."""
    for place, block in enumerate(blocks):
        extend(block, Checkpointed, _chain=chain, _place=place)
