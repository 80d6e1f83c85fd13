"""Multi-head attention over the sequence itself or over a context, with a cache for going on position by position."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def attend(q_NHLD: Tensor, k_NHMD: Tensor, v_NHMD: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
    """Softmax(q·kᵀ/√D)·v (Vaswani et al. 2017, equation 1); a key whose `mask` (bool) is False is ignored.

    If `causal` (without a mask), the last query attends to all keys, and each earlier query to one fewer.

    On a CPU in bfloat16 the fused kernel's backward pass is several times slower than plain matrix products, which need
    little memory for the few hundred positions of a feature map.
    """
    queries, keys = q_NHLD.shape[-2], k_NHMD.shape[-2]
    plain = q_NHLD.device.type == "cpu" and q_NHLD.dtype == torch.bfloat16
    if causal and queries > 1 and (plain or queries < keys):
        mask = torch.ones(queries, keys, dtype=torch.bool, device=q_NHLD.device).tril(keys - queries)
    if plain:
        logits_NHLM = (q_NHLD * q_NHLD.shape[-1] ** -0.5) @ k_NHMD.transpose(-1, -2)
        if mask is not None:
            logits_NHLM = logits_NHLM.masked_fill(~mask, float("-inf"))
        return logits_NHLM.softmax(-1, dtype=torch.bfloat16) @ v_NHMD
    is_causal = causal and queries > 1 and mask is None
    return F.scaled_dot_product_attention(q_NHLD, k_NHMD, v_NHMD, attn_mask=mask, is_causal=is_causal)


def rotate(x_NHLD: Tensor, first: int) -> Tensor:
    """Apply rotary position embeddings (Su et al. 2021, equation 34), for positions from `first` on.

    Channels d and d + D/2 are rotated by position · 10,000^(−2d/D), so that q·k depends only on how far apart the two
    positions are.
    """
    half = x_NHLD.shape[-1] // 2
    frequencies_D = 10_000.0 ** -(torch.arange(half, device=x_NHLD.device, dtype=torch.float32) / half)
    positions_L = torch.arange(first, first + x_NHLD.shape[-2], device=x_NHLD.device, dtype=torch.float32)
    angles_LD = positions_L[:, None] * frequencies_D
    cos_LD, sin_LD = angles_LD.cos().to(x_NHLD.dtype), angles_LD.sin().to(x_NHLD.dtype)
    a_NHLD, b_NHLD = x_NHLD.chunk(2, -1)
    return torch.cat([a_NHLD * cos_LD - b_NHLD * sin_LD, a_NHLD * sin_LD + b_NHLD * cos_LD], -1)


class KeyValues:
    """The cached keys and values of one attention layer: those of the positions so far, or of a whole context.

    Memory is allocated once.
    """

    def __init__(self, most: int) -> None:
        """`most`: the positions to make room for, at the first `append`."""
        self.most, self.length = most, 0
        self._k_NHMD = self._v_NHMD = torch.empty(0)

    def append(self, k_NHLD: Tensor, v_NHLD: Tensor) -> tuple[Tensor, Tensor]:
        """Add L positions. Returns the keys and values of all of them. Raises ValueError if there is no room."""
        first, self.length = self.length, self.length + k_NHLD.shape[-2]
        if self.length > self.most:
            raise ValueError(f"positions: found {self.length}, expected at most {self.most}")
        if not first:
            shape = (*k_NHLD.shape[:2], self.most, k_NHLD.shape[-1])
            self._k_NHMD, self._v_NHMD = k_NHLD.new_empty(shape), v_NHLD.new_empty(shape)
        self._k_NHMD[:, :, first : self.length] = k_NHLD
        self._v_NHMD[:, :, first : self.length] = v_NHLD
        return self.all()

    def all(self) -> tuple[Tensor, Tensor]:
        """Keys and values of all positions so far."""
        return self._k_NHMD[:, :, : self.length], self._v_NHMD[:, :, : self.length]


class Attention(nn.Module):
    """Scaled dot-product attention (Vaswani et al. 2017, equation 1) of `width` channels in `heads` heads.

    With `context_width`, keys and values come from a context of that many channels, otherwise from the input itself.
    """

    def __init__(
        self, width: int, heads: int, context_width: int | None = None, *, causal: bool = False, rotary: bool = False
    ) -> None:
        """`causal`: a position attends to itself and earlier ones; `rotary`: positions rotate queries and keys."""
        super().__init__()
        if width % heads:
            raise ValueError(f"heads: found {heads}, expected a divisor of the {width} channels")
        self.heads, self.causal, self.rotary = heads, causal, rotary
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(context_width or width, 2 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x_NLC: Tensor,
        context_NMD: Tensor | None = None,
        mask_NM: Tensor | None = None,
        past: KeyValues | None = None,
    ) -> Tensor:
        """Attend from `x` to `context` (or to `x`). A key whose `mask` is False is ignored. Returns [N, L, C].

        With `past`, `x` holds the next positions, which are added to it. The keys of a context are computed only once.
        """
        q_NHLD = self._split(self.query(x_NLC))
        if context_NMD is not None and past is not None and past.length:
            k_NHMD, v_NHMD = past.all()
        else:
            source = x_NLC if context_NMD is None else context_NMD
            k_NHMD, v_NHMD = (self._split(part) for part in self.key_value(source).chunk(2, -1))
            if self.rotary:
                k_NHMD = rotate(k_NHMD, past.length if past else 0)
            if past is not None:
                k_NHMD, v_NHMD = past.append(k_NHMD, v_NHMD)
        if self.rotary:
            q_NHLD = rotate(q_NHLD, k_NHMD.shape[-2] - q_NHLD.shape[-2])
        mask = None if mask_NM is None else mask_NM[:, None, None, :]
        attended = attend(q_NHLD, k_NHMD, v_NHMD, mask, self.causal)
        return self.out(attended.transpose(1, 2).flatten(2))

    def _split(self, x_NLC: Tensor) -> Tensor:
        return x_NLC.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """The two-layer network of a Transformer block, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
