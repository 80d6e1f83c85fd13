"""The selective policy: keep what is expensive to compute and small to store, and compute the rest again.

Which operations are worth keeping is also known to torch, but only privately: `compute_intensive_ops` in
`torch._functorch.partitioners` serves its graph compiler. It lacks operations that reach eager mode (attention on CPUs,
by cuDNN and on MPS; `baddbmm`), and what `torch.utils.checkpoint` makes public has no such list. So `KEPT` is our own;
a test checks that it has whatever torch's list has.
"""

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

from headrace.activation.ambient import Buffers, Owner, changed_buffers, keep_buffers, owners_of
from headrace.activation.chain import Extended, extend

Contexts = tuple[AbstractContextManager[Any], AbstractContextManager[Any]]
aten = torch.ops.aten
KEPT = {
    aten.mm.default,
    aten.addmm.default,
    aten.bmm.default,
    aten.baddbmm.default,
    aten._scaled_mm.default,
    aten.convolution.default,
    aten._flash_attention_forward.default,
    aten._efficient_attention_forward.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_attention_math_for_mps.default,
}
"""matrix products, convolutions (products of patches) and attention"""


class Selective(Extended):
    """A block that keeps only the outputs of the operations in `KEPT`."""

    _owners: Sequence[Owner]
    _whole: bool

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the block's own forward."""
        if not torch.is_grad_enabled():
            return super().forward(*args, **kwargs)
        contexts: Callable[[], Contexts] = functools.partial(create_selective_checkpoint_contexts, _policy)
        if self._whole:
            contexts = noop_context_fn
        if self._owners and not torch.compiler.is_compiling():
            contexts = functools.partial(_with_buffers, contexts, self._owners)
        return checkpoint(super().forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def attach_selective(block: nn.Module) -> None:
    """Make `block` keep only the outputs of the operations in `KEPT`, in place."""
    # On a CPU a GRU changes matrix products through views that torch does not track, so none of them can be kept.
    whole = any(isinstance(part, nn.GRU) for part in block.modules())
    extend(block, Selective, _owners=owners_of(block), _whole=whole)


@contextmanager
def _both(outer: AbstractContextManager[Any], inner: AbstractContextManager[Any]) -> Iterator[None]:
    with outer, inner:
        yield


def _with_buffers(contexts: Callable[[], Contexts], owners: Sequence[Owner]) -> Contexts:
    """The contexts of both runs; the second one reads the buffers as the first one did, and leaves them unchanged."""
    first, second = contexts()
    before: Buffers = {}
    return _both(changed_buffers(owners, before), first), _both(keep_buffers(owners, before), second)


def _policy(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation in KEPT else CheckpointPolicy.PREFER_RECOMPUTE
