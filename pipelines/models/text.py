"""The Transformer that encodes captions."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from headrace.models.transformer import Transformer
from headrace.recipe.text import Text


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
    """Encoded conditioning: what a network attends to, for each image."""

    tokens_NLD: Tensor
    """one vector for each token"""
    mask_NL: Tensor
    """bool, True for a real token"""
    pooled_ND: Tensor
    """the mean over real tokens"""


class TextEncoder(nn.Module):
    """Token embeddings and a bidirectional Transformer."""

    def __init__(self, recipe: Text) -> None:
        super().__init__()
        self.tokens = nn.Embedding(recipe.vocabulary, recipe.width)
        self.transformer = Transformer(recipe.width, recipe.layers, recipe.heads, recipe.length)
        nn.init.normal_(self.tokens.weight, std=0.5)

    def forward(self, tokens_NL: Tensor, mask_NL: Tensor) -> Context:
        """Encode tokens (int64) under their mask (bool)."""
        x_NLD = self.transformer(self.tokens(tokens_NL), mask_NL)
        real_NL1 = mask_NL[..., None].to(x_NLD.dtype)
        pooled_ND = (x_NLD * real_NL1).sum(1) / real_NL1.sum(1).clamp(min=1)
        return Context(x_NLD, mask_NL, pooled_ND)
