"""The chain of a model's blocks while it runs: which call belongs to which segment.

Segments need no loop of their own. Each block's `forward` is called by whoever calls it; a call whose input is the very
tensor that the block before it returned is chained to that call, so the two can be computed again as one segment.
Anything else that a block takes (embeddings, skips, masks) is stored as it is. Where calls are not chained, a segment
simply ends.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from headrace.activation.ambient import Owner, owners_of
from headrace.activation.plan import Plan
from headrace.activation.recompute import Frame


class Extended(nn.Module):
    """The mark of a block whose class was extended."""


def extend(block: nn.Module, extension: type[Extended], **attributes: Any) -> None:
    """Put `extension` before `block`'s class, with `attributes` set on the block."""
    block.__class__ = _extended(type(block), extension, tuple(attributes))
    for name, value in attributes.items():
        object.__setattr__(block, name, value)


def _extended(kind: type[nn.Module], extension: type[Extended], extras: tuple[str, ...]) -> type[nn.Module]:
    """The class of all extended blocks of a kind: as it is one class, compiled blocks of one size share a graph."""
    for known in kind.__subclasses__():
        if known.__bases__ == (extension, kind):
            return known
    return type(kind.__name__, (extension, kind), {"__module__": kind.__module__, "_extras": extras})


def restore(block: nn.Module) -> None:
    """Give `block` its own class back."""
    while isinstance(block, Extended):
        kind: Any = type(block)
        for name in kind._extras:
            object.__delattr__(block, name)
        block.__class__ = kind.__bases__[1]


class Applied:
    """A policy at work on a model: what `apply` gives back. This one needs no care at all."""

    def watch(self, name: str, device: torch.device, parameters: Iterable[Tensor] = ()) -> AbstractContextManager[None]:
        """Around one forward and backward pass, so that a budget can measure it; `name` tells kinds of passes apart.

        `parameters` are those whose gradients the pass makes.
        """
        return nullcontext()


class Chain(Applied):
    """The plan for a model's blocks, and the frame that the forward pass is filling. Holds no module."""

    def __init__(self, plan: Plan) -> None:
        self._open: weakref.ref[Frame] | None = None
        self.plan = plan
        self._segments = plan.segments()

    def call(self, place: int, block: Checkpointed, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run the block number `place`, keeping of it what the plan says."""
        segment = self._segments.get(place)
        if segment is None or not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        frame = self._open() if self._open is not None else None
        if frame is None or not frame.goes_on(place, segment, args, kwargs):
            frame = Frame(segment)
            self._open = weakref.ref(frame)
        return frame.run(place, block, block._owners, forward, args, kwargs)


class Checkpointed(Extended):
    """A block whose forward goes through the chain."""

    _chain: Chain
    _place: int
    _owners: Sequence[Owner]
    _compiled: Callable[..., Any] | None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's own forward, as the plan says."""
        forward = functools.partial(self._compiled, self) if self._compiled else super().forward
        if torch.compiler.is_compiling():
            return _apart(self._chain, self._place, self, forward, args, kwargs)
        return self._chain.call(self._place, self, forward, args, kwargs)


@torch.compiler.disable
def _apart(chain: Chain, place: int, block: Checkpointed, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """A graph of the model around the block ends here and goes on after it."""
    return chain.call(place, block, forward, args, kwargs)


def attach(blocks: Sequence[nn.Module], chain: Chain, compiled: bool = False) -> None:
    """Let `blocks` run through `chain`, in place; with `compiled` each as a graph of its own."""
    for place, block in enumerate(blocks):
        function = compile_forward(block) if compiled else None
        extend(block, Checkpointed, _chain=chain, _place=place, _owners=owners_of(block), _compiled=function)


class Compiled(Extended):
    """A block that is compiled and otherwise left alone."""

    _compiled: Callable[..., Any]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's own forward."""
        return self._compiled(self, *args, **kwargs)


GRAPHS = 512
"""graphs that blocks of one class may have between them: their sizes differ"""


def compile_forward(block: nn.Module) -> Callable[..., Any]:
    """The forward of the block's class as one compiled graph; a copy of the block calls it with its own weights."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
    torch._dynamo.config.accumulated_recompile_limit = max(torch._dynamo.config.accumulated_recompile_limit, 4 * GRAPHS)
    return torch.compile(type(block).forward, dynamic=False)
