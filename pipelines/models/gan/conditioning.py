"""A GAN's conditioning as a vector, and the discriminator's last layer, which compares an image with that vector."""

import torch
from torch import Tensor, nn

from headrace.errors import DataError
from headrace.models.conditions import Conditioning
from headrace.models.text import TextEncoder
from headrace.recipe.gan import Gan

WIDTH = 64
"""channels of the conditioning vector"""


class Embedding(nn.Module):
    """The vector of a label or caption, scaled to mean square 1: [N, WIDTH].

    Captions go through the Transformer encoder.
    """

    def __init__(self, recipe: Gan) -> None:
        super().__init__()
        self.kind = recipe.condition
        if self.kind == "label":
            self.label = nn.Embedding(recipe.classes, WIDTH)
        else:
            self.text = TextEncoder(recipe.text)
            self.pooled = nn.Linear(recipe.text.width, WIDTH)

    def forward(self, conditioning: Conditioning) -> Tensor:
        """Raises ValueError if the label or caption to embed is missing, DataError if a label is out of range."""
        if self.kind == "label":
            label_N = conditioning.labels()
            self._check(label_N)
            e_NE = self.label(label_N)
        else:
            if conditioning.caption is None:
                raise ValueError("captions: found none, expected one for each image")
            e_NE = self.pooled(self.text(*conditioning.caption).pooled_ND)
        return torch.nn.functional.rms_norm(e_NE, (WIDTH,))

    def _check(self, label_N: Tensor) -> None:
        """Check labels on the CPU only, where it needs no synchronisation. A GPU fails by itself, less clearly."""
        known = self.label.num_embeddings
        if label_N.device.type == "cpu" and not ((label_N >= 0) & (label_N < known)).all():
            found = sorted(set(label_N[(label_N < 0) | (label_N >= known)].tolist()))
            raise DataError(f"data.label: found {found}, expected labels from 0 to {known - 1}, as model.classes is")


def embedding(recipe: Gan) -> Embedding | None:
    """The embedding that `recipe.condition` asks for; None for unconditional networks."""
    return None if recipe.condition == "none" else Embedding(recipe)


class Start(nn.Module):
    """The generator's input: z, concatenated with the conditioning vector if there is one."""

    def __init__(self, recipe: Gan) -> None:
        super().__init__()
        self.embedding = embedding(recipe)
        self.width = recipe.latent + (0 if self.embedding is None else WIDTH)

    def forward(self, z_NZ: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns [N, width]."""
        return z_NZ if self.embedding is None else torch.cat([z_NZ, self.embedding(conditioning)], 1)


class Head(nn.Module):
    """The output of a projection discriminator: ψ(φ) + eᵀVφ for features φ and the conditioning vector e.

    Miyato & Koyama 2018, section 3. The inner product is divided by √E, so that it starts as small as ψ.
    """

    def __init__(self, recipe: Gan, features: int) -> None:
        super().__init__()
        self.out = nn.Linear(features, 1)
        self.embedding = embedding(recipe)
        self.project = None if self.embedding is None else nn.Linear(features, WIDTH, bias=False)

    def forward(self, features_NF: Tensor, conditioning: Conditioning) -> Tensor:
        """Returns [N], in float32."""
        out_N = self.out(features_NF).squeeze(1).float()
        if self.embedding is None or self.project is None:
            return out_N
        agreement_NE = self.project(features_NF).float() * self.embedding(conditioning).float()
        return out_N + agreement_NE.sum(1) * WIDTH**-0.5
