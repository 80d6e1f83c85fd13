"""Conditioning: the captions and class labels that a network gets besides its input, and how they are encoded."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from headrace.models.frozen_text import FrozenTextEncoder
from headrace.models.text import Caption, Context, TextEncoder
from headrace.recipe.text import FrozenText, Text

NO_LABEL = -1
"""the label of an image whose class is not given"""


class Conditioning(NamedTuple):
    """The captions and labels of N images. A network ignores those that it has no encoder for."""

    label_N: Tensor | None = None
    """int64 class labels, −1 (`NO_LABEL`) where there is none"""
    caption: Caption | None = None
    """tokens and their mask"""

    @classmethod
    def of(cls, caption: Caption) -> "Conditioning":
        """Conditioning on captions only."""
        return cls(torch.full_like(caption.tokens_NL[:, 0], NO_LABEL), caption)

    def dropped(self, drop_N: Tensor) -> "Conditioning":
        """A copy without the caption and label of each image whose `drop` (bool) is True."""
        caption = None if self.caption is None else self.caption.dropped(drop_N)
        label_N = None if self.label_N is None else self.label_N.masked_fill(drop_N, NO_LABEL)
        return Conditioning(label_N, caption)

    def labels(self) -> Tensor:
        """`label_N`. Raises ValueError if there are no labels."""
        if self.label_N is None:
            raise ValueError("labels: found none, expected one for each image")
        return self.label_N


class LabelEncoder(nn.Module):
    """A learnt vector for each class, and one for no class."""

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        self.labels = labels
        self.vectors = nn.Embedding(labels + 1, width)
        nn.init.normal_(self.vectors.weight, std=0.5)

    def forward(self, label_N: Tensor) -> Context:
        """A context of one token. A label is −1, or at least 0 and less than the number of classes."""
        # A network without classes ignores the labels of the data.
        known_N = label_N.new_full(label_N.shape, NO_LABEL) if self.labels == 0 else label_N
        vector_ND = self.vectors(torch.where(known_N < 0, self.labels, known_N))
        return Context(vector_ND[:, None], torch.ones_like(known_N, dtype=torch.bool)[:, None], vector_ND)


class Conditions(Protocol):
    """A `model` section of a network that takes captions, labels or both."""

    @property
    def text(self) -> Text | FrozenText | None:
        """The caption encoder, if there is one."""
        ...

    @property
    def labels(self) -> int | None:
        """The number of classes, if the network takes labels."""
        ...

    @property
    def context_width(self) -> int:
        """Channels of a token of the context."""
        ...


class Conditioned(nn.Module):
    """The part of a network that encodes its conditioning: a caption, a class, both or neither."""

    def __init__(self, recipe: Conditions) -> None:
        super().__init__()
        self.text: TextEncoder | FrozenTextEncoder | None = None
        if recipe.text is not None:
            kind = FrozenTextEncoder if isinstance(recipe.text, FrozenText) else TextEncoder
            self.text = kind(recipe.text)  # type: ignore[arg-type]
        self.labels: LabelEncoder | None = None
        if recipe.text is None or recipe.labels is not None:
            self.labels = LabelEncoder(recipe.labels or 0, recipe.context_width)

    def encode(self, conditioning: Conditioning | Caption) -> Context:
        """The context that the network attends to. Encode once and denoise many times.

        Raises ValueError if the network takes captions and gets none, or takes labels and gets none.
        """
        if isinstance(conditioning, Caption):
            conditioning = Conditioning.of(conditioning)
        parts = []
        if self.text is not None:
            if conditioning.caption is None:
                raise ValueError("caption: found nothing, expected one for a network that reads captions")
            parts.append(self.text(*conditioning.caption))
        if self.labels is not None:
            parts.append(self.labels(conditioning.labels()))
        if len(parts) == 1:
            return parts[0]
        words, classes = parts
        return Context(
            torch.cat([words.tokens_NLD, classes.tokens_NLD.to(words.tokens_NLD.dtype)], 1),
            torch.cat([words.mask_NL, classes.mask_NL], 1),
            words.pooled_ND + classes.pooled_ND,
        )
