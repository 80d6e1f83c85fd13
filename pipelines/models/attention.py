"""Multi-head attention, over a sequence itself or over a context."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(q_NHLD: Tensor, k_NHMD: Tensor, v_NHMD: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax(q·kᵀ/√D)·v (Vaswani et al. 2017, equation 1); where `mask` (bool) is False a key is not seen.

    On a CPU in bfloat16 the fused kernel's backward pass is several times slower than plain matrix products, and at
    the few hundred positions of a feature map those need no memory to speak of.
    """
    if q_NHLD.device.type == "cpu" and q_NHLD.dtype == torch.bfloat16:
        logits_NHLM = (q_NHLD * q_NHLD.shape[-1] ** -0.5) @ k_NHMD.transpose(-1, -2)
        if mask is not None:
            logits_NHLM = logits_NHLM.masked_fill(~mask, float("-inf"))
        return logits_NHLM.softmax(-1, dtype=torch.bfloat16) @ v_NHMD
    return F.scaled_dot_product_attention(q_NHLD, k_NHMD, v_NHMD, attn_mask=mask)


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1) of `width` channels in `heads` heads.

    With `context_width` the keys and values come from a context of that many channels, else from the input itself.
    """

    def __init__(self, width: int, heads: int, context_width: int | None = None) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: found {heads}, expected a divisor of the {width} channels")
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_width or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_NLC: Tensor, context_NMD: Tensor | None = None, mask_NM: Tensor | None = None) -> Tensor:
        """Attend from `x` to `context` (or to `x`); where `mask` is False a key is not seen. Returns [N, L, C]."""
        source = x_NLC if context_NMD is None else context_NMD
        q_NHLD = self._split(self.query(x_NLC))
        k_NHMD, v_NHMD = (self._split(part) for part in self.key_value(source).chunk(2, -1))
        mask = None if mask_NM is None else mask_NM[:, None, None, :]
        attended = attend(q_NHLD, k_NHMD, v_NHMD, mask)
        return self.out(attended.transpose(1, 2).flatten(2))

    def _split(self, x_NLC: Tensor) -> Tensor:
        return x_NLC.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """The two-layer network of a Transformer block, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
