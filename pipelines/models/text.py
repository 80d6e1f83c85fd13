"""The Transformer that encodes captions."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipelines.models.attention import Attention, FeedForward
from pipelines.recipe.text import Text


class Caption(NamedTuple):
    """Captions as tokens."""

    tokens_NL: Tensor
    """int64; the first of each row is the begin token"""
    mask_NL: Tensor
    """bool, True for a real token"""

    def dropped(self, drop_N: Tensor) -> "Caption":
        """These captions with the null caption (the begin token alone) where `drop` (bool) is True."""
        gone_NL = drop_N[:, None] & (torch.arange(self.tokens_NL.shape[1], device=drop_N.device) > 0)
        return Caption(self.tokens_NL.masked_fill(gone_NL, 0), self.mask_NL & ~gone_NL)


class Context(NamedTuple):
    """Captions as the U-Net sees them."""

    tokens_NLD: Tensor
    """one vector for each token"""
    mask_NL: Tensor
    """bool, True for a real token"""
    pooled_ND: Tensor
    """the mean over real tokens"""


class TextBlock(nn.Module):
    """A Transformer block that normalises before each part (Xiong et al. 2020, figure 1b)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width)

    def forward(self, x_NLD: Tensor, mask_NL: Tensor) -> Tensor:
        """Returns [N, L, D]."""
        x_NLD = x_NLD + self.attention(self.norm_attention(x_NLD), mask_NM=mask_NL)
        return x_NLD + self.feed_forward(self.norm_feed_forward(x_NLD))


class TextEncoder(nn.Module):
    """Token and position embeddings, Transformer blocks that see both ways, a last normalisation."""

    def __init__(self, recipe: Text) -> None:
        super().__init__()
        self.tokens = nn.Embedding(recipe.vocabulary, recipe.width)
        self.positions = nn.Parameter(torch.randn(recipe.length, recipe.width) * 0.02)
        self.blocks = nn.ModuleList(TextBlock(recipe.width, recipe.heads) for _ in range(recipe.layers))
        self.norm = nn.LayerNorm(recipe.width)
        nn.init.normal_(self.tokens.weight, std=0.5)

    def forward(self, tokens_NL: Tensor, mask_NL: Tensor) -> Context:
        """Encode tokens (int64) under their mask (bool)."""
        x_NLD = self.tokens(tokens_NL) + self.positions[: tokens_NL.shape[1]]
        for block in self.blocks:
            x_NLD = block(x_NLD, mask_NL)
        x_NLD = self.norm(x_NLD)
        real_NL1 = mask_NL[..., None].to(x_NLD.dtype)
        pooled_ND = (x_NLD * real_NL1).sum(1) / real_NL1.sum(1).clamp(min=1)
        return Context(x_NLD, mask_NL, pooled_ND)
