"""What a denoiser is told of each image, captions and class labels, and how it is encoded."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from headrace.models.frozen_text import FrozenTextEncoder
from headrace.models.text import Caption, Context, TextEncoder
from headrace.recipe.text import FrozenText, Text

UNTOLD = -1
"""the label of an image whose class is not told"""


class Told(NamedTuple):
    """What a network is told of each of N images; a network passes over what it does not know of."""

    label_N: Tensor
    """int64 class labels, −1 for none"""
    caption: Caption | None = None

    @classmethod
    def of(cls, caption: Caption) -> "Told":
        """Captions alone."""
        return cls(torch.full_like(caption.tokens_NL[:, 0], UNTOLD), caption)

    def dropped(self, drop_N: Tensor) -> "Told":
        """The same with nothing told where `drop` (bool) is True."""
        caption = None if self.caption is None else self.caption.dropped(drop_N)
        return Told(self.label_N.masked_fill(drop_N, UNTOLD), caption)


class LabelEncoder(nn.Module):
    """A learnt vector for each class, and one for no class."""

    def __init__(self, labels: int, width: int) -> None:
        super().__init__()
        self.labels = labels
        self.vectors = nn.Embedding(labels + 1, width)
        nn.init.normal_(self.vectors.weight, std=0.5)

    def forward(self, label_N: Tensor) -> Context:
        """A context of one token. Labels are −1 or from 0 to below the number of classes."""
        # Without classes there is nothing to tell, whatever the data knows.
        known_N = label_N.new_full(label_N.shape, UNTOLD) if self.labels == 0 else label_N
        vector_ND = self.vectors(torch.where(known_N < 0, self.labels, known_N))
        return Context(vector_ND[:, None], torch.ones_like(known_N, dtype=torch.bool)[:, None], vector_ND)


class Conditions(Protocol):
    """A `model` section of a network that is told something."""

    @property
    def text(self) -> Text | FrozenText | None:
        """The caption encoder, if there is one."""
        ...

    @property
    def labels(self) -> int | None:
        """The classes, if the network is told them."""
        ...

    @property
    def context_width(self) -> int:
        """Channels of a token of what the network is told."""
        ...


class Conditioned(nn.Module):
    """The part of a network that encodes what it is told: a caption, a class, both or neither."""

    def __init__(self, recipe: Conditions) -> None:
        super().__init__()
        self.text: TextEncoder | FrozenTextEncoder | None = None
        if recipe.text is not None:
            kind = FrozenTextEncoder if isinstance(recipe.text, FrozenText) else TextEncoder
            self.text = kind(recipe.text)  # type: ignore[arg-type]
        self.labels: LabelEncoder | None = None
        if recipe.text is None or recipe.labels is not None:
            self.labels = LabelEncoder(recipe.labels or 0, recipe.context_width)

    def encode(self, told: Told | Caption) -> Context:
        """What is told as the network sees it; encode once, denoise many times.

        Raises ValueError if there is no caption for a network that reads captions.
        """
        if isinstance(told, Caption):
            told = Told.of(told)
        parts = []
        if self.text is not None:
            if told.caption is None:
                raise ValueError("caption: found nothing, expected one for a network that reads captions")
            parts.append(self.text(*told.caption))
        if self.labels is not None:
            parts.append(self.labels(told.label_N))
        if len(parts) == 1:
            return parts[0]
        words, classes = parts
        return Context(
            torch.cat([words.tokens_NLD, classes.tokens_NLD.to(words.tokens_NLD.dtype)], 1),
            torch.cat([words.mask_NL, classes.mask_NL], 1),
            words.pooled_ND + classes.pooled_ND,
        )
