"""The Transformer (Vaswani et al. 2017): encoder, decoder, or both.

One class serves as the caption encoder (bidirectional), as a causal model of a sequence, and as the decoder of an
encoder–decoder (causal, with cross-attention to another Transformer's output).
"""

from typing import Literal

import torch
from torch import Tensor, nn

from headrace.models.attention import Attention, FeedForward, KeyValues

Positions = Literal["learned", "sinusoidal", "rotary"]
Norm = Literal["pre", "post"]


class Past:
    """A Transformer's cache of the positions so far: the keys and values of every block."""

    def __init__(self, layers: int, most: int) -> None:
        """Room for `most` positions."""
        self.own = [KeyValues(most) for _ in range(layers)]
        self.cross: list[KeyValues | None] = [None] * layers

    @property
    def length(self) -> int:
        """The positions so far."""
        return self.own[0].length


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention if there is a context, and a feed-forward network, each with a shortcut.

    Normalisation comes before each part (`pre`) or after each sum (`post`): Xiong et al. (2020), figure 1.
    """

    def __init__(
        self, width: int, heads: int, context_width: int | None, *, causal: bool, rotary: bool, norm: Norm
    ) -> None:
        super().__init__()
        self.post = norm == "post"
        self.norm_self = nn.LayerNorm(width)
        self.attend_self = Attention(width, heads, causal=causal, rotary=rotary)
        self.attend_cross: Attention | None = None
        if context_width is not None:
            self.norm_cross = nn.LayerNorm(width)
            self.attend_cross = Attention(width, heads, context_width)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(
        self,
        x_NLC: Tensor,
        mask_NL: Tensor | None = None,
        context_NMD: Tensor | None = None,
        context_mask_NM: Tensor | None = None,
        past: tuple[KeyValues, KeyValues] | None = None,
    ) -> Tensor:
        """Returns [N, L, C]. `past` holds the keys and values of this block's two attentions."""
        own, cross = past or (None, None)
        h_NLC = x_NLC if self.post else self.norm_self(x_NLC)
        x_NLC = x_NLC + self.attend_self(h_NLC, mask_NM=mask_NL, past=own)
        x_NLC = self.norm_self(x_NLC) if self.post else x_NLC
        if self.attend_cross is not None:
            h_NLC = x_NLC if self.post else self.norm_cross(x_NLC)
            x_NLC = x_NLC + self.attend_cross(h_NLC, context_NMD, context_mask_NM, past=cross)
            x_NLC = self.norm_cross(x_NLC) if self.post else x_NLC
        h_NLC = x_NLC if self.post else self.norm_feed_forward(x_NLC)
        x_NLC = x_NLC + self.feed_forward(h_NLC)
        return self.norm_feed_forward(x_NLC) if self.post else x_NLC


class Transformer(nn.Module):
    """Positions, blocks and a final normalisation, over vectors of `width` channels."""

    positions_LC: Tensor | None

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        length: int,
        *,
        causal: bool = False,
        context_width: int | None = None,
        positions: Positions = "learned",
        norm: Norm = "pre",
    ) -> None:
        """`length`: the most positions. `context_width`: channels of the context; None for no cross-attention."""
        super().__init__()
        self.length = length
        if positions == "learned":
            self.positions_LC = nn.Parameter(torch.randn(length, width) * 0.02)
        else:  # attention applies rotary positions to queries and keys
            fixed_LC = sinusoids(length, width) if positions == "sinusoidal" else None
            self.register_buffer("positions_LC", fixed_LC, persistent=False)
        rotary = positions == "rotary"
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads, context_width, causal=causal, rotary=rotary, norm=norm)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(
        self,
        x_NLC: Tensor,
        mask_NL: Tensor | None = None,
        context_NMD: Tensor | None = None,
        context_mask_NM: Tensor | None = None,
        past: Past | None = None,
    ) -> Tensor:
        """Returns [N, L, C]. A key whose mask (bool) is False is ignored.

        With `past`, `x` holds the positions that follow it, and they are added to it; `mask` cannot be used then.
        Raises ValueError if there are more positions than `length`.
        """
        first = past.length if past else 0
        last = first + x_NLC.shape[1]
        if last > self.length:
            raise ValueError(f"positions: found {last}, expected at most {self.length}")
        if self.positions_LC is not None:
            x_NLC = x_NLC + self.positions_LC[first:last]
        for number, block in enumerate(self.blocks):
            remembered = None
            if past is not None:
                if context_NMD is not None and past.cross[number] is None:
                    past.cross[number] = KeyValues(context_NMD.shape[1])
                remembered = (past.own[number], past.cross[number])
            x_NLC = block(x_NLC, mask_NL, context_NMD, context_mask_NM, remembered)
        return self.norm(x_NLC)

    def past(self, most: int | None = None) -> Past:
        """An empty cache with room for `most` positions (by default `length`)."""
        return Past(len(self.blocks), most or self.length)


def sinusoids(length: int, width: int) -> Tensor:
    """Sines in the even channels, cosines in the odd ones (Vaswani et al. 2017, section 3.5): [length, width]."""
    exponents_C = torch.arange(0, width, 2, dtype=torch.float32) / width
    angles_LC = torch.arange(length, dtype=torch.float32)[:, None] * 10_000.0**-exponents_C
    return torch.stack([angles_LC.sin(), angles_LC.cos()], -1).flatten(1)[:, :width]
