"""What a block's result depends on besides its arguments: random state, autocast, buffers."""

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


@dataclass(frozen=True, slots=True)
class Ambient:
    """Random state and autocast at the moment a block runs."""

    random: Tensor
    random_cuda: dict[int, Tensor]
    autocast: tuple[tuple[str, torch.dtype | None], ...]
    """the type of each kind of device under autocast, None where it is off"""
    autocast_cache: bool

    @classmethod
    def now(cls, leaves: Sequence[Any]) -> Ambient:
        """As it is, on the CPU and on the GPUs that `leaves` lie on."""
        devices = {leaf.get_device() for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_cuda}
        return cls(
            _random_now(),
            {device: torch.cuda.get_rng_state(device) for device in devices},
            _autocast(bool(devices)),
            torch.is_autocast_cache_enabled(),
        )

    def run(self, function: Callable[[], Any]) -> Any:
        """Call `function` as if it were then; afterwards everything is as it was before."""
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
    """The CPU generator's state, 5 kB: blocks that draw nothing between them share one."""
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
    """Where the block's buffers are; the buffers themselves may be replaced."""
    return tuple((module, name) for module in block.modules() for name in module._buffers)


@contextmanager
def keep_buffers(owners: Sequence[Owner]) -> Iterator[None]:
    """Undo what happens to the buffers: running statistics count a batch once, however often it is computed."""
    before = [(buffer, buffer.clone()) for module, name in owners if (buffer := module._buffers[name]) is not None]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
