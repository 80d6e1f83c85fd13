"""What each block of a chain costs, measured in one step: bytes that its backward holds, seconds each way."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class BlockCost:
    """One block. Bytes count each storage once and leave out parameters and buffers."""

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
    """bytes that the backward computation itself takes: two gradients of the largest tensor, about"""
    backward: float = 0.0
    """seconds"""


@dataclass(frozen=True)
class ChainCost:
    """All blocks of a chain, with what is held whatever the plan."""

    blocks: tuple[BlockCost, ...]
    fixed: int
    """bytes of arguments that are no block's output: the chain's input, embeddings, masks"""

    @property
    def seconds(self) -> float:
        """Forward and backward of all blocks without computing anything again."""
        return sum(block.forward + block.backward for block in self.blocks)


class Profile:
    """Measures the blocks while the first step runs, each block computed again, so that little memory is needed."""

    def __init__(self) -> None:
        self._costs: dict[int, BlockCost] = {}
        self._backward: dict[int, float] = {}
        self._arguments: dict[int, int] = {}
        self._outputs: set[int] = set()
        self._before: tuple[int, list[weakref.ref[Tensor]], set[int]] | None = None
        self._filled: tuple[int, float] | None = None

    def __contains__(self, index: int) -> bool:
        return index in self._costs

    @contextmanager
    def forward(self, index: int, block: nn.Module, arguments: Any) -> Iterator[list[Any]]:
        """Measure a block's forward; the caller puts the output into the list that this yields."""
        saved: list[Tensor] = []
        output: list[Any] = []
        leaves = _tensors(arguments)
        linked = self._is_linked(index, leaves)

        def pack(tensor: Tensor) -> Tensor:
            saved.append(tensor)
            return tensor

        started = _now(leaves)
        with saved_tensors_hooks(pack, _same):
            yield output
        seconds = _now(leaves) - started
        outside = _storages([*leaves, *block.parameters(), *block.buffers()])
        results = _tensors(output)
        made = _storages(results)
        held = _storages(saved)
        inside = sum(size for key, size in held.items() if key not in outside and key not in made)
        before = held.keys() & self._before[2] if linked and self._before else ()
        own = [size for key, size in {**held, **made}.items() if key not in outside]
        self._costs[index] = BlockCost(
            inside=inside,
            output=sum(made.values()),
            forward=seconds,
            linked=linked,
            keeps_input=bool(before),
            keeps_output=bool(held.keys() & made.keys()),
            workspace=2 * max(own, default=0),
        )
        for key, size in _storages(leaves).items():
            if key not in self._outputs:
                self._arguments[key] = size
        self._outputs |= made.keys()
        self._before = (index, [weakref.ref(result) for result in results], set(made))

    @contextmanager
    def again(self, index: int) -> Iterator[None]:
        """Measure the backward pass by the time between one block's second run and the next one's."""
        now = time.perf_counter()
        if self._filled is not None:
            after, ended = self._filled
            self._backward[after] = now - ended
        yield
        self._filled = (index, time.perf_counter())

    def cost(self) -> ChainCost:
        """What was measured. A block whose backward was not seen to end is taken to cost twice its forward."""
        blocks = []
        for index in sorted(self._costs):
            cost = self._costs[index]
            blocks.append(replace(cost, backward=self._backward.get(index, 2 * cost.forward)))
        return ChainCost(tuple(blocks), sum(self._arguments.values()))

    def _is_linked(self, index: int, leaves: Sequence[Tensor]) -> bool:
        if self._before is None or self._before[0] != index - 1:
            return False
        return any(output() is leaf for output in self._before[1] for leaf in leaves)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _storages(tensors: Sequence[Tensor]) -> dict[int, int]:
    """Bytes of each storage, by its address; `tensors` are alive, so no address is used twice."""
    return {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}


def _now(leaves: Sequence[Tensor]) -> float:
    if any(leaf.is_cuda for leaf in leaves):
        torch.cuda.synchronize()
    return time.perf_counter()


def _same(tensor: Tensor) -> Tensor:
    return tensor
