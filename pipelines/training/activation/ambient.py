"""What a block's result depends on besides its arguments: random state, autocast, buffers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Ambient:
    """Random state and autocast at the moment a block runs."""

    random: Tensor
    random_cuda: dict[int, Tensor]
    autocast: dict[str, torch.dtype | None]
    autocast_cache: bool

    @classmethod
    def now(cls, leaves: Sequence[Any]) -> Ambient:
        """As it is, on the CPU and on the GPUs that `leaves` lie on."""
        devices = {leaf.get_device() for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_cuda}
        kinds = ("cpu", "cuda") if devices else ("cpu",)
        return cls(
            random=torch.get_rng_state(),
            random_cuda={device: torch.cuda.get_rng_state(device) for device in devices},
            autocast={k: torch.get_autocast_dtype(k) if torch.is_autocast_enabled(k) else None for k in kinds},
            autocast_cache=torch.is_autocast_cache_enabled(),
        )

    @contextmanager
    def again(self) -> Iterator[None]:
        """Bring it back for the block; afterwards everything is as it was before."""
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(list(self.random_cuda)))
            torch.set_rng_state(self.random)
            for device, state in self.random_cuda.items():
                torch.cuda.set_rng_state(state, device)
            for kind, dtype in self.autocast.items():
                stack.enter_context(
                    torch.autocast(kind, dtype, enabled=dtype is not None, cache_enabled=self.autocast_cache)
                )
            yield


@contextmanager
def keep_buffers(block: nn.Module) -> Iterator[None]:
    """Undo what the block does to its buffers: running statistics count a batch once, however often it is computed."""
    before = [(buffer, buffer.clone()) for buffer in block.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
