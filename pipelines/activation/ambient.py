"""What a block's output depends on besides its arguments: random state, autocast and buffers."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Owner = tuple[nn.Module, str]
"""a module and the name of one of its buffers"""
Buffers = dict[Owner, Tensor]
"""the values of buffers"""


@dataclass(frozen=True, slots=True)
class Ambient:
    """The random state and the autocast state when a block runs."""

    random: Tensor
    random_cuda: dict[int, Tensor]
    autocast: tuple[tuple[str, torch.dtype | None], ...]
    """autocast's dtype for each kind of device, None where autocast is off"""
    autocast_cache: bool

    @classmethod
    def now(cls, leaves: Sequence[Any]) -> Ambient:
        """The current state, of the CPU and of each GPU that holds one of `leaves`."""
        devices = {leaf.get_device() for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_cuda}
        return cls(
            _random_now(),
            {device: torch.cuda.get_rng_state(device) for device in devices},
            _autocast(bool(devices)),
            torch.is_autocast_cache_enabled(),
        )

    def run(self, function: Callable[[], Any]) -> Any:
        """Call `function` under this state, and restore the present state afterwards."""
        random = torch.default_generator.get_state()
        random_cuda = {device: torch.cuda.get_rng_state(device) for device in self.random_cuda}
        torch.default_generator.set_state(self.random)
        for device, state in self.random_cuda.items():
            torch.cuda.set_rng_state(state, device)
        try:
            if self.autocast == _autocast(len(self.autocast) > 1):
                return function()
            with self._autocast_again():
                return function()
        finally:
            torch.default_generator.set_state(random)
            for device, state in random_cuda.items():
                torch.cuda.set_rng_state(state, device)

    @contextmanager
    def _autocast_again(self) -> Iterator[None]:
        with ExitStack() as stack:
            for kind, dtype in self.autocast:
                stack.enter_context(
                    torch.autocast(kind, dtype, enabled=dtype is not None, cache_enabled=self.autocast_cache)
                )
            yield


_last_random: weakref.ref[Tensor] | None = None


def _random_now() -> Tensor:
    """The state of the CPU's generator (5 kB). Blocks between which nothing was drawn share one tensor."""
    global _last_random
    state = torch.default_generator.get_state()
    last = _last_random() if _last_random is not None else None
    if last is not None and torch.equal(last, state):
        return last
    _last_random = weakref.ref(state)
    return state


def _autocast(cuda: bool) -> tuple[tuple[str, torch.dtype | None], ...]:
    kinds = ("cpu", "cuda") if cuda else ("cpu",)
    return tuple((k, torch.get_autocast_dtype(k) if torch.is_autocast_enabled(k) else None) for k in kinds)


def owners_of(block: nn.Module) -> tuple[Owner, ...]:
    """Where the block's buffers are found: by owner and name, because a buffer may be replaced."""
    return tuple((module, name) for module in block.modules() for name in module._buffers)


@contextmanager
def changed_buffers(owners: Sequence[Owner], before: Buffers) -> Iterator[None]:
    """Copy the buffers that the block changes into `before`, as they were when the context was entered."""
    found = [
        (owner, buffer, buffer._version, buffer.clone()) for owner in owners if (buffer := _buffer(owner)) is not None
    ]
    yield
    for owner, buffer, version, value in found:
        if _buffer(owner) is not buffer or buffer._version != version:
            before[owner] = value


@contextmanager
def keep_buffers(owners: Sequence[Owner], before: Buffers | None = None) -> Iterator[None]:
    """Restore the buffers at the end, so that running statistics count a batch once however often a block runs.

    Inside the context, the buffers in `before` have their earlier values: a block that reads a buffer and then changes
    it reads the same value again.
    """
    now = [(buffer, buffer.clone()) for owner in owners if (buffer := _buffer(owner)) is not None]
    with torch.no_grad():
        for owner, value in (before or {}).items():
            buffer = _buffer(owner)
            if buffer is not None:
                buffer.copy_(value)
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in now:
                buffer.copy_(value)


def _buffer(owner: Owner) -> Tensor | None:
    module, name = owner
    return module._buffers[name]
