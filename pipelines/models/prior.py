"""An autoregressive model of an image's codes, row by row, given a caption or class (Esser et al. 2021, section 3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headrace.models.conditions import NO_LABEL, Conditioned, Conditioning
from headrace.models.recurrent import Memory, Recurrent
from headrace.models.text import Context
from headrace.models.transformer import Past, Transformer
from headrace.recipe.discrete import Prior as PriorRecipe


class Prefix(nn.Module):
    """The conditioning as the first vectors of a sequence.

    These are a class and the tokens of a caption, padding included (as in Ramesh et al. 2021, section 2.2). Without
    either there is one learnt vector.
    """

    def __init__(self, recipe: PriorRecipe) -> None:
        super().__init__()
        prefix = recipe.condition == "prefix"
        self.words = nn.Embedding(recipe.text.vocabulary, recipe.width) if prefix and recipe.text else None
        self.labels = nn.Embedding(recipe.labels + 1, recipe.width) if prefix and recipe.labels else None
        self.length = (recipe.text.length if self.words and recipe.text else 0) + (self.labels is not None)
        """the number of vectors before the first code"""
        self.begin_1C: nn.Parameter | None = None
        if not self.length:
            self.length, self.begin_1C = 1, nn.Parameter(torch.randn(1, recipe.width) * 0.02)

    def forward(self, conditioning: Conditioning) -> Tensor:
        """Returns [N, length, C]. Raises ValueError if there is no caption for a network that reads captions."""
        if self.begin_1C is not None:
            return self.begin_1C.expand(len(conditioning.labels()), 1, -1)
        parts = []
        if self.labels is not None:
            label_N = conditioning.labels()
            known_N = torch.where(label_N == NO_LABEL, self.labels.num_embeddings - 1, label_N)
            parts.append(self.labels(known_N)[:, None])
        if self.words is not None:
            if conditioning.caption is None:
                raise ValueError("caption: found nothing, expected one for a network that reads captions")
            parts.append(self.words(conditioning.caption.tokens_NL))
        return torch.cat(parts, 1)


@dataclass
class Reading:
    """The state that a prior needs to go on by one code, for a batch of images."""

    past: Past | Memory
    context: Context | None


class Prior(nn.Module):
    """p(code | the codes before it, the conditioning), by a Transformer, an LSTM or a GRU."""

    def __init__(self, recipe: PriorRecipe) -> None:
        super().__init__()
        self.size, self.side = recipe.codes, recipe.side
        cross = recipe.condition == "cross"
        self.context = Conditioned(recipe) if cross else None
        self.prefix = Prefix(recipe)
        self.embed = nn.Embedding(recipe.codes, recipe.width)
        self.core: Transformer | Recurrent
        if recipe.core == "transformer":
            self.core = Transformer(
                recipe.width,
                recipe.layers,
                recipe.heads,
                self.prefix.length + recipe.side**2,
                causal=True,
                context_width=recipe.context_width if cross else None,
                positions=recipe.positions,
                norm=recipe.norm,
            )
        else:
            self.core = Recurrent(recipe.width, recipe.layers, recipe.core)
        self.head = nn.Linear(recipe.width, recipe.codes)
        for embedding in (module for module in self.modules() if isinstance(module, nn.Embedding)):
            nn.init.normal_(embedding.weight, std=0.5)

    def forward(self, before_NL: Tensor, conditioning: Conditioning) -> Tensor:
        """The logits [N, L + 1, K] of the first code, and of the code that follows each of `before` (int64)."""
        x_NLC = torch.cat([self.prefix(conditioning), self.embed(before_NL)], 1)
        h_NLC = self._read(x_NLC, self._context(conditioning), None)
        return self.head(h_NLC[:, self.prefix.length - 1 :])

    def begin(self, conditioning: Conditioning) -> tuple[Reading, Tensor]:
        """Read the conditioning. Returns the state for `go_on`, and the logits [N, K] of the first code."""
        reading = Reading(self.core.past(), self._context(conditioning))
        h_NLC = self._read(self.prefix(conditioning), reading.context, reading.past)
        return reading, self.head(h_NLC[:, -1])

    def go_on(self, reading: Reading, code_N: Tensor) -> Tensor:
        """Read one more code (int64), which updates `reading`. Returns the logits [N, K] of the next code."""
        h_N1C = self._read(self.embed(code_N[:, None]), reading.context, reading.past)
        return self.head(h_N1C[:, 0])

    def _context(self, conditioning: Conditioning) -> Context | None:
        return None if self.context is None else self.context.encode(conditioning)

    def _read(self, x_NLC: Tensor, context: Context | None, past: Past | Memory | None) -> Tensor:
        if isinstance(self.core, Recurrent):
            assert not isinstance(past, Past)
            return self.core(x_NLC, past)
        assert not isinstance(past, Memory)
        if context is None:
            return self.core(x_NLC, past=past)
        return self.core(x_NLC, context_NMD=context.tokens_NLD, context_mask_NM=context.mask_NL, past=past)
