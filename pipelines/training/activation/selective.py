"""The selective policy: keep what is dear to compute and small to store, compute the rest again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
    noop_context_fn,
)

from pipelines.training.activation.ambient import Buffers, Owner, changed_buffers, keep_buffers, owners_of
from pipelines.training.activation.extend import Extended

Contexts = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]
aten = torch.ops.aten
KEPT = {
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_attention_math_for_mps.default,
    aten.convolution.default,
}
"""matrix products, convolutions (products of patches) and attention"""


class Selective(Extended):
    """A block of whose forward only the outputs of `KEPT` are kept."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's own forward."""
        if not torch.is_grad_enabled():
            return super().forward(*args, **kwargs)
        contexts: Callable[[], Contexts] = functools.partial(create_selective_checkpoint_contexts, _policy)
        if any(isinstance(part, nn.GRU) for part in self.modules()):
            # On a CPU it changes matrix products through views that torch does not see: nothing of it can be kept.
            contexts = noop_context_fn
        owners = () if torch.compiler.is_compiling() else owners_of(self)
        if owners:
            contexts = functools.partial(_with_buffers, contexts, owners)
        return checkpoint(super().forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextmanager
def _both(outer: AbstractContextManager[Any], inner: AbstractContextManager[Any]) -> Iterator[None]:
    with outer, inner:
        yield


def _with_buffers(contexts: Callable[[], Contexts], owners: Sequence[Owner]) -> Contexts:
    """The contexts of the two runs, the second of which leaves buffers as they are and sees them as the first did."""
    first, second = contexts()
    before: Buffers = {}
    return _both(changed_buffers(owners, before), first), _both(keep_buffers(owners, before), second)


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in KEPT else CheckpointPolicy.PREFER_RECOMPUTE
