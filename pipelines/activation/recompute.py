"""Computing a segment again when its backward pass needs tensors that its forward pass did not keep.

This works below autograd's graph, by saved-tensor hooks, as PyTorch's own non-reentrant checkpoint does. While a block
runs, each tensor that autograd would save for backward is replaced by an empty slot. When the backward pass opens the
first slot, the segment runs again under the same random state and autocast, which fills the slots. The graph is that of
the first run, and so is every gradient.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.distributed.fsdp import FSDPModule
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_unflatten

from headrace.activation.ambient import Ambient, Buffers, Owner, changed_buffers, keep_buffers
from headrace.activation.plan import Segment

PLAIN = (Tensor, int, float, str, type(None))
"""types of arguments that are leaves, so that no container has to be walked through"""


class Slot:
    """The place of a tensor that backward will need."""

    __slots__ = ("__weakref__", "dtype", "frame", "index", "shape", "value")

    def __init__(self, frame: Frame, index: int, tensor: Tensor) -> None:
        self.frame, self.index = frame, index
        self.shape, self.dtype = tensor.shape, tensor.dtype
        self.value: Tensor | None = None


class Stored:
    """An argument stored for the second run."""

    __slots__ = ("requires_grad", "tensor", "version")

    def __init__(self, tensor: Tensor) -> None:
        self.tensor, self.requires_grad, self.version = tensor.detach(), tensor.requires_grad, tensor._version

    def get(self) -> Tensor:
        """The argument, detached from the first run's graph. Raises RuntimeError if it was modified in place."""
        if self.tensor._version != self.version:
            raise RuntimeError(
                f"an input of shape {list(self.tensor.shape)} of a checkpointed block was modified in place after the "
                "block ran, so the block cannot run again"
            )
        return self.tensor.detach().requires_grad_(self.requires_grad)


class Linked:
    """An argument that is output number `place` of the previous call."""

    __slots__ = ("place", "requires_grad")

    def __init__(self, place: int, requires_grad: bool) -> None:
        self.place, self.requires_grad = place, requires_grad


@dataclass(eq=False, slots=True)
class Call:
    """One run of a block in a forward pass, with everything needed to run it again."""

    block: nn.Module
    owners: Sequence[Owner]
    """the block's buffers"""
    forward: Callable[..., Any]
    leaves: list[Any]
    spec: TreeSpec | None
    """how the leaves make up the arguments; None if they are the positional arguments"""
    ambient: Ambient
    index: int
    slots: list[weakref.ref[Slot]] = field(default_factory=list)
    outputs: list[tuple[weakref.ref[Tensor], int] | None] = field(default_factory=list)
    """each output with its version: one that has been changed in place since is not what a second run returns"""
    buffers: Buffers = field(default_factory=dict)
    """the buffers that the run changed, as they were before it"""

    def run_again(self, before: Sequence[Any]) -> Any:
        """Run the block again and return its output; `before` are the flat outputs of the previous call."""
        leaves = []
        for leaf in self.leaves:
            if isinstance(leaf, Stored):
                leaves.append(leaf.get())
            elif isinstance(leaf, Linked):
                leaves.append(before[leaf.place].detach().requires_grad_(leaf.requires_grad))
            else:
                leaves.append(leaf)
        args, kwargs = (leaves, {}) if self.spec is None else tree_unflatten(leaves, self.spec)
        if isinstance(self.block, FSDPModule):  # calling the module gathers its weights, but this calls its forward
            self.block.unshard()
        if not self.owners:
            return self.ambient.run(lambda: self.forward(*args, **kwargs))
        with keep_buffers(self.owners, self.buffers):
            return self.ambient.run(lambda: self.forward(*args, **kwargs))


@dataclass(frozen=True, slots=True)
class Pending:
    """A segment that is still to be computed again; `before` are the flat outputs of the call before it."""

    segment: Segment
    before: Sequence[Any]


class _Filled(Exception):
    """Every slot is filled, so the rest of the block need not run."""


class Observer:
    """Measures segments: it gets each tensor that a first run would save, and wraps second runs."""

    def saves(self, tensor: Tensor) -> None:
        """Called in a first run for each `tensor` that backward needs and a slot replaces."""

    def whole(self) -> AbstractContextManager[None]:
        """A context around all that is computed again at once."""
        return nullcontext()

    def refill(self, index: int) -> AbstractContextManager[None]:
        """A context around the second run of block `index`, with gradients."""
        return nullcontext()


class Frame:
    """One segment in one forward pass. Only its slots keep it alive: it is freed with the last of them."""

    def __init__(self, segment: Segment, observer: Observer | None = None) -> None:
        self.segment = segment
        self._observer = observer
        self.calls: dict[int, Call] = {}
        self._pending: list[Pending] = [Pending(segment, ())]
        self._last: Call | None = None

    def goes_on(self, index: int, segment: Segment, args: Any, kwargs: Any) -> bool:
        """Whether a call of block `index` continues this frame: it is the next one and chained to the previous."""
        if self._last is None or segment is not self.segment or index != self._last.index + 1:
            return False
        return any(self._place(leaf) is not None for leaf in (flatten(args, kwargs)[0]))

    def run(
        self, index: int, block: nn.Module, owners: Sequence[Owner], forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """Run a block for the first time, leaving a slot for each tensor that its backward needs."""
        leaves, spec = flatten(args, kwargs)
        call = Call(block, owners, forward, [self._leaf(leaf) for leaf in leaves], spec, Ambient.now(leaves), index)
        self.calls[index] = call
        slots, observer = call.slots, self._observer

        def pack(tensor: Tensor) -> Slot:
            if observer is not None:
                observer.saves(tensor)
            slot = Slot(self, index, tensor)
            slots.append(weakref.ref(slot))
            return slot

        with saved_tensors_hooks(pack, _open), changed_buffers(owners, call.buffers):
            output = forward(*args, **kwargs)
        call.outputs = [
            (weakref.ref(leaf), leaf._version) if isinstance(leaf, Tensor) else None for leaf in leaves_of(output)
        ]
        self._last = call
        return output

    def fill(self, slot: Slot) -> None:
        """Compute again what is needed to fill `slot`. Raises RuntimeError if the block runs differently this time."""
        while slot.value is None:
            waiting = [p for p in self._pending if slot.index in p.segment.blocks()]
            if not waiting:
                raise RuntimeError("a checkpointed block ran differently the second time: it saved fewer tensors")
            self._pending.remove(waiting[0])
            with nullcontext() if self._observer is None else self._observer.whole():
                self._expand(waiting[0])

    def _expand(self, pending: Pending) -> None:
        items = [item for item in pending.segment.items if self._ran(item)]
        before = pending.before
        for number, item in enumerate(items):
            last = number == len(items) - 1
            if isinstance(item, int):
                with nullcontext() if self._observer is None else self._observer.refill(item):
                    before = self._refill(self.calls[item], before, stop=last)
            else:
                self._pending.append(Pending(item, before))
                if not last:
                    with torch.no_grad():
                        for index in item.blocks():
                            before = leaves_of(self.calls[index].run_again(before))

    def _ran(self, item: int | Segment) -> bool:
        first = item if isinstance(item, int) else next(item.blocks())
        return first in self.calls

    def _refill(self, call: Call, before: Sequence[Any], stop: bool) -> Sequence[Any]:
        """Run `call` again with gradients and fill its slots; with `stop`, stop once the last of them is filled."""
        waiting = iter(call.slots)
        left = len(call.slots)

        def pack(tensor: Tensor) -> None:
            nonlocal left
            slot_of = next(waiting, None)
            if slot_of is None:
                raise RuntimeError("a checkpointed block ran differently the second time: it saved more tensors")
            left -= 1
            slot = slot_of()
            if slot is not None:
                if slot.shape != tensor.shape or slot.dtype != tensor.dtype:
                    _differs(slot, tensor)
                slot.value = tensor.detach()
            if stop and not left:
                raise _Filled

        try:
            with torch.enable_grad(), saved_tensors_hooks(pack, _never):
                return leaves_of(call.run_again(before))
        except _Filled:
            return ()

    def _leaf(self, leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        place = self._place(leaf)
        return Stored(leaf) if place is None else Linked(place, leaf.requires_grad)

    def _place(self, leaf: Any) -> int | None:
        """The number of the last call's output that `leaf` is, or None if it is not one of them."""
        if self._last is not None and isinstance(leaf, Tensor):
            for place, output in enumerate(self._last.outputs):
                if output is not None and output[0]() is leaf and output[1] == leaf._version:
                    return place
        return None


def flatten(args: Any, kwargs: Any) -> tuple[list[Any], TreeSpec | None]:
    """The leaves of the arguments and the spec to rebuild them; None if the positional arguments are the leaves."""
    if not kwargs and all(isinstance(argument, PLAIN) for argument in args):
        return list(args), None
    return tree_flatten((args, kwargs))


def leaves_of(output: Any) -> Sequence[Any]:
    """The leaves of a block's output."""
    return (output,) if isinstance(output, Tensor) else tree_leaves(output)


def _differs(slot: Slot, tensor: Tensor) -> None:
    raise RuntimeError(
        f"a checkpointed block ran differently the second time: found {tensor.dtype} {list(tensor.shape)}, "
        f"expected {slot.dtype} {list(slot.shape)}"
    )


def _open(slot: Slot) -> Tensor:
    if slot.value is None:
        slot.frame.fill(slot)
    assert slot.value is not None
    return slot.value


def _never(nothing: None) -> Tensor:
    raise RuntimeError("the graph of a second run has no backward pass")
