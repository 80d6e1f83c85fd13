"""What an image is made for, as a vector; and the discriminator's last layer, which compares the two."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from headrace.errors import DataError
from headrace.models.text import Caption, TextEncoder
from headrace.recipe.gan import Gan

WIDTH = 64
"""channels of a condition's vector"""


class Condition(NamedTuple):
    """What images are made for; nothing with unconditional networks."""

    label_N: Tensor | None = None
    """int64"""
    caption: Caption | None = None
    """tokens and their mask"""


class Embedding(nn.Module):
    """A label's or a caption's vector of mean square 1: [N, WIDTH]; captions go through the Transformer encoder."""

    def __init__(self, recipe: Gan) -> None:
        super().__init__()
        self.kind = recipe.condition
        if self.kind == "label":
            self.label = nn.Embedding(recipe.classes, WIDTH)
        else:
            self.text = TextEncoder(recipe.text)
            self.pooled = nn.Linear(recipe.text.width, WIDTH)

    def forward(self, condition: Condition) -> Tensor:
        """Raises ValueError if the condition lacks what is to be embedded, DataError if that is no known label."""
        if self.kind == "label":
            if condition.label_N is None:
                raise ValueError("condition: found no labels, expected one for each image")
            self._check(condition.label_N)
            e_NE = self.label(condition.label_N)
        else:
            if condition.caption is None:
                raise ValueError("condition: found no captions, expected one for each image")
            e_NE = self.pooled(self.text(*condition.caption).pooled_ND)
        return torch.nn.functional.rms_norm(e_NE, (WIDTH,))

    def _check(self, label_N: Tensor) -> None:
        """Look at labels on a CPU, where it costs no wait; a GPU stops by itself, though with fewer words."""
        known = self.label.num_embeddings
        if label_N.device.type == "cpu" and not ((label_N >= 0) & (label_N < known)).all():
            found = sorted(set(label_N[(label_N < 0) | (label_N >= known)].tolist()))
            raise DataError(f"data.label: found {found}, expected labels from 0 to {known - 1}, as model.classes is")


def embedding(recipe: Gan) -> Embedding | None:
    """The embedding of `recipe`'s condition; None for unconditional networks."""
    return None if recipe.condition == "none" else Embedding(recipe)


class Start(nn.Module):
    """The generator's input: z, joined to the condition's vector where there is one."""

    def __init__(self, recipe: Gan) -> None:
        super().__init__()
        self.embedding = embedding(recipe)
        self.width = recipe.latent + (0 if self.embedding is None else WIDTH)

    def forward(self, z_NZ: Tensor, condition: Condition) -> Tensor:
        """Returns [N, width]."""
        return z_NZ if self.embedding is None else torch.cat([z_NZ, self.embedding(condition)], 1)


class Head(nn.Module):
    """ψ(φ) + eᵀVφ of features φ and the condition's vector e: a projection discriminator's output.

    Miyato & Koyama 2018, section 3; the inner product is divided by √E, so that it starts as small as ψ.
    """

    def __init__(self, recipe: Gan, features: int) -> None:
        super().__init__()
        self.out = nn.Linear(features, 1)
        self.embedding = embedding(recipe)
        self.project = None if self.embedding is None else nn.Linear(features, WIDTH, bias=False)

    def forward(self, features_NF: Tensor, condition: Condition) -> Tensor:
        """Returns [N], in float32."""
        out_N = self.out(features_NF).squeeze(1).float()
        if self.embedding is None or self.project is None:
            return out_N
        agreement_NE = self.project(features_NF).float() * self.embedding(condition).float()
        return out_N + agreement_NE.sum(1) * WIDTH**-0.5
