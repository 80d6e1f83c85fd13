"""What each call of a block costs, measured while passes run: bytes held for its backward, and seconds each way.

`Profile` measures one pass into a `ChainCost`, which has a `BlockCost` for each call. `Clock` times whole passes.
"""

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

from headrace.activation.recompute import Observer


@dataclass(frozen=True)
class BlockCost:
    """The cost of one call of a block. Bytes count each storage once and leave out parameters and buffers."""

    inside: int
    """bytes held for backward besides the block's arguments and its output"""
    output: int
    """bytes of the output"""
    forward: float
    """seconds"""
    linked: bool
    """whether an argument is the previous block's output"""
    keeps_input: bool
    """whether that argument is held for backward"""
    keeps_output: bool
    """whether the output is held for backward"""
    workspace: int
    """bytes that running backward takes: about two gradients of the largest tensor, and gradients that wait"""
    again: float = 0.0
    """seconds of a second run, which stops at the last tensor that backward needs"""
    backward: float = 0.0
    """seconds"""
    casts: int = 0
    """bytes of weights that autocast cast to another dtype, held until the forward pass ends; part of `inside`"""


@dataclass(frozen=True)
class ChainCost:
    """The costs of all calls of a pass, in order, and of what is held under any plan."""

    blocks: tuple[BlockCost, ...]
    fixed: int
    """bytes of arguments that are not a block's output: the chain's input, embeddings, masks"""
    outside: int = 0
    """bytes held outside blocks when the last block has run"""
    tail: int = 0
    """the most bytes that the rest of the forward pass takes after the last block, beyond those held at that point"""
    around: float = 0.0
    """seconds of a pass outside blocks"""

    @property
    def seconds(self) -> float:
        """Seconds of forward and backward if nothing is computed again."""
        return self.around + sum(block.forward + block.backward for block in self.blocks)


class Profile(Observer):
    """Measures the calls of one pass. Each call is computed again, so that measuring needs little memory."""

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
        """Measure the next call's forward. The caller appends the output to the list that this yields."""
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
        """Count `tensor` as needed by the backward of the call that is running."""
        self._saved.append(tensor)

    @contextmanager
    def refill(self, index: int) -> Iterator[None]:
        """Measure a call's backward as the time between its second run and the next call's second run."""
        now = self._now()
        if self._filled is not None:
            after, ended = self._filled
            self._backward[after] = now - ended
        yield
        ended = self._now()
        self._again[index] = ended - now
        self._filled = (index, ended)

    def cost(self) -> ChainCost:
        """The costs measured. Where the end of a call's backward was not seen, it counts as twice its forward."""
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
    """The sizes of `other` and the smaller of both times: the first pass also pays for one-off set-up."""
    if len(one.blocks) != len(other.blocks):
        return other
    blocks = tuple(
        replace(b, forward=min(a.forward, b.forward), again=min(a.again, b.again), backward=min(a.backward, b.backward))
        for a, b in zip(one.blocks, other.blocks, strict=True)
    )
    return replace(other, blocks=blocks)


class Clock(Observer):
    """Seconds of a pass, and of the second runs within it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.seconds_again = 0.0
        self._device = torch.device("cpu")
        self._started = 0.0

    def start(self, device: torch.device) -> None:
        """Start timing a pass on `device`."""
        self._device = device
        self.seconds_again = 0.0
        self._started = self._now()

    def stop(self) -> None:
        """Stop timing."""
        self.seconds = self._now() - self._started

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Count the time in the context as second runs."""
        started = self._now()
        yield
        self.seconds_again += self._now() - started

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storages(tensors: Sequence[Tensor]) -> dict[int, int]:
    """The bytes of each storage by its address. `tensors` are alive, so no address occurs for two storages."""
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
