"""What each call of a block costs, measured while passes run: bytes that its backward holds, seconds each way."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from headrace.activation.recompute import Watch


class Clock(Watch):
    """Seconds of a pass, and of the second runs in it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.seconds_again = 0.0
        self._device = torch.device("cpu")
        self._started = 0.0

    def start(self, device: torch.device) -> None:
        """The pass begins."""
        self._device = device
        self.seconds_again = 0.0
        self._started = self._now()

    def stop(self) -> None:
        """The pass is over."""
        self.seconds = self._now() - self._started

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Count the block as computing again."""
        started = self._now()
        yield
        self.seconds_again += self._now() - started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


@dataclass(frozen=True)
class BlockCost:
    """One call of a block. Bytes count each storage once and leave out parameters and buffers."""

    inside: int
    """bytes that backward holds besides the block's arguments and its output"""
    output: int
    """bytes of the output"""
    forward: float
    """seconds"""
    linked: bool
    """whether an argument is the output of the block before"""
    keeps_input: bool
    """whether backward holds that argument"""
    keeps_output: bool
    """whether backward holds the output"""
    workspace: int
    """bytes that the backward computation takes: two gradients of the largest tensor, about, and those that wait"""
    again: float = 0.0
    """seconds of a second run that ends with the last tensor that backward holds: what comes after it is left out"""
    backward: float = 0.0
    """seconds"""
    casts: int = 0
    """bytes of weights that autocast made in another type, held until the forward pass is over; part of `inside`"""


@dataclass(frozen=True)
class ChainCost:
    """All calls of a pass in order, with what is held whatever the plan."""

    blocks: tuple[BlockCost, ...]
    fixed: int
    """bytes of arguments that are no block's output: the chain's input, embeddings, masks"""
    outside: int = 0
    """bytes that what is not a block holds when the last block has run"""
    tail: int = 0
    """the most bytes that what comes after the last block takes on top of what is held then"""
    around: float = 0.0
    """seconds of a pass outside of the blocks"""

    @property
    def seconds(self) -> float:
        """Forward and backward without computing anything again."""
        return self.around + sum(block.forward + block.backward for block in self.blocks)


class Profile(Watch):
    """Measures the calls of one pass, each computed again, so that little memory is needed."""

    def __init__(self) -> None:
        self._costs: list[BlockCost] = []
        self._saved: list[Tensor] = []
        self._again: dict[int, float] = {}
        self._backward: dict[int, float] = {}
        self._arguments: dict[int, int] = {}
        self._outputs: set[int] = set()
        self._before: tuple[list[weakref.ref[Tensor]], set[int]] | None = None
        self._filled: tuple[int, float] | None = None
        self._cuda = False

    def __len__(self) -> int:
        return len(self._costs)

    @contextmanager
    def forward(self, block: nn.Module, arguments: Any) -> Iterator[list[Any]]:
        """Measure the next call's forward; the caller puts the output into the list that this yields."""
        output: list[Any] = []
        leaves = _tensors(arguments)
        self._cuda = self._cuda or any(leaf.is_cuda for leaf in leaves)
        linked = self._before is not None and any(before() is leaf for before in self._before[0] for leaf in leaves)

        self._saved.clear()
        started = self._now()
        yield output
        seconds = self._now() - started
        outside = _storages([*leaves, *block.parameters(), *block.buffers()])
        results = _tensors(output)
        made = _storages(results)
        held = _storages(self._saved)
        inside = sum(size for key, size in held.items() if key not in outside and key not in made)
        before = held.keys() & self._before[1] if linked and self._before else ()
        own = [size for key, size in {**held, **made}.items() if key not in outside]
        self._costs.append(
            BlockCost(
                inside=inside,
                output=sum(made.values()),
                forward=seconds,
                linked=linked,
                keeps_input=bool(before),
                keeps_output=bool(held.keys() & made.keys()),
                workspace=2 * max(own, default=0),
            )
        )
        for key, size in _storages(leaves).items():
            if key not in self._outputs:
                self._arguments[key] = size
        self._outputs |= made.keys()
        self._before = ([weakref.ref(result) for result in results], set(made))
        self._saved.clear()

    def saves(self, tensor: Tensor) -> None:
        """Count `tensor` among what the backward of the call that runs needs."""
        self._saved.append(tensor)

    @contextmanager
    def refill(self, index: int) -> Iterator[None]:
        """Measure the backward pass by the time between one call's second run and the next one's."""
        now = self._now()
        if self._filled is not None:
            after, ended = self._filled
            self._backward[after] = now - ended
        yield
        ended = self._now()
        self._again[index] = ended - now
        self._filled = (index, ended)

    def cost(self) -> ChainCost:
        """What was measured. A call whose backward was not seen to end is taken to cost twice its forward."""
        blocks = tuple(
            replace(
                cost,
                again=self._again.get(position, cost.forward),
                backward=self._backward.get(position, 2 * cost.forward),
            )
            for position, cost in enumerate(self._costs)
        )
        return ChainCost(blocks, sum(self._arguments.values()))

    def _now(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
        return time.perf_counter()


def quicker(one: ChainCost, other: ChainCost) -> ChainCost:
    """The sizes of `other`, and of each time the smaller one: the first pass pays for what is set up once."""
    if len(one.blocks) != len(other.blocks):
        return other
    blocks = tuple(
        replace(b, forward=min(a.forward, b.forward), again=min(a.again, b.again), backward=min(a.backward, b.backward))
        for a, b in zip(one.blocks, other.blocks, strict=True)
    )
    return replace(other, blocks=blocks)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storages(tensors: Sequence[Tensor]) -> dict[int, int]:
    """Bytes of each storage, by its address; `tensors` are alive, so no address is used twice."""
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
