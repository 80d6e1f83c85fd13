"""The chain of a model's blocks as it runs, and the classes that put blocks into it.

`Chain` decides which segment a call belongs to. The model keeps its own loop over its blocks: a call whose input is the
very tensor that the previous block returned is chained to that block's call, and the two can be computed again as one
segment. Everything else that a block takes (embeddings, skips, masks) is stored as it is. Where a call is not chained,
the segment ends.

A block joins a chain by a change of class (`extend`, undone by `restore`): the new class has the old one as its base
and a `forward` that goes through the chain. The names of parameters do not change.
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


class Applied:
    """A policy at work on a model, as `apply` returns it. This base class measures nothing."""

    def measure(
        self, name: str, device: torch.device, parameters: Iterable[Tensor] = ()
    ) -> AbstractContextManager[None]:
        """A context around one forward and backward pass, in which a budget measures it.

        `name` identifies the kind of pass. `parameters` are those whose gradients the pass computes.
        """
        return nullcontext()


class Chain(Applied):
    """The plan for a model's blocks, and the frame that the forward pass is filling. It holds no module."""

    def __init__(self, plan: Plan) -> None:
        self._open: weakref.ref[Frame] | None = None
        self.plan = plan
        self._segments = plan.segments()

    def call(self, place: int, block: Checkpointed, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run block number `place`, and keep what the plan says of it."""
        segment = self._segments.get(place)
        if segment is None or not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        frame = self._open() if self._open is not None else None
        if frame is None or not frame.goes_on(place, segment, args, kwargs):
            frame = Frame(segment)
            self._open = weakref.ref(frame)
        return frame.run(place, block, block._owners, forward, args, kwargs)


class Extended(nn.Module):
    """The mixin of blocks whose class has been extended."""


class Checkpointed(Extended):
    """A block that runs through a chain."""

    _chain: Chain
    _place: int
    _owners: Sequence[Owner]
    _compiled: Callable[..., Any] | None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block's own forward as the plan says."""
        forward = functools.partial(self._compiled, self) if self._compiled else super().forward
        if torch.compiler.is_compiling():
            return _apart(self._chain, self._place, self, forward, args, kwargs)
        return self._chain.call(self._place, self, forward, args, kwargs)


@torch.compiler.disable
def _apart(chain: Chain, place: int, block: Checkpointed, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """Break the graph of a compiled model around the block: it ends here and continues after the block."""
    return chain.call(place, block, forward, args, kwargs)


def attach(blocks: Sequence[nn.Module], chain: Chain, compiled: bool = False) -> None:
    """Make `blocks` run through `chain`, in place; if `compiled`, each as a graph of its own."""
    for place, block in enumerate(blocks):
        function = compile_forward(block) if compiled else None
        extend(block, Checkpointed, _chain=chain, _place=place, _owners=owners_of(block), _compiled=function)


class Compiled(Extended):
    """A block that is compiled and not checkpointed."""

    _compiled: Callable[..., Any]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block's own forward, compiled."""
        return self._compiled(self, *args, **kwargs)


GRAPHS = 512
"""how many graphs the blocks of one class may have: one for each size"""


def compile_forward(block: nn.Module) -> Callable[..., Any]:
    """The compiled forward of the block's class, a function of the block: a copy of it runs with its own weights."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, GRAPHS)
    torch._dynamo.config.accumulated_recompile_limit = max(torch._dynamo.config.accumulated_recompile_limit, 4 * GRAPHS)
    return torch.compile(type(block).forward, dynamic=False)


def extend(block: nn.Module, extension: type[Extended], **attributes: Any) -> None:
    """Make `block` an instance of `extension` and of its present class, and set `attributes` on it."""
    block.__class__ = _extended(type(block), extension, tuple(attributes))
    for name, value in attributes.items():
        object.__setattr__(block, name, value)


def _extended(kind: type[nn.Module], extension: type[Extended], extras: tuple[str, ...]) -> type[nn.Module]:
    """The extended class of a kind of block. There is one per kind, so compiled blocks of one size share a graph."""
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
