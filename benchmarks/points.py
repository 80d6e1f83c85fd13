"""Multilayer perceptrons over points: networks for problems of a few dimensions, where the answer is known."""

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from headrace.models.conditions import Conditioning


class Mlp(nn.Module):
    """`layers` hidden layers of `width` with ReLU, then a linear layer to `outputs` channels."""

    def __init__(self, inputs: int, outputs: int, width: int = 128, layers: int = 3) -> None:
        super().__init__()
        widths = [inputs, *[width] * layers]
        self.blocks = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.out = nn.Linear(width, outputs)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Returns [N, outputs], float32."""
        for block in self.blocks:
            x_ND = F.relu(block(x_ND))
        return self.out(x_ND).float()


class PointGenerator(Mlp):
    """A generator of points [N, D] from standard normal z [N, `latent`]; it ignores conditioning."""

    def __init__(self, latent: int, dimensions: int, width: int = 128, layers: int = 3) -> None:
        super().__init__(latent, dimensions, width, layers)
        self.latent = latent

    def forward(self, z_NZ: Tensor, conditioning: Conditioning = Conditioning()) -> Tensor:  # noqa: B008
        """Returns points [N, D]."""
        return super().forward(z_NZ)


class PointDiscriminator(Mlp):
    """A discriminator of points [N, D]: one number for each; it ignores conditioning."""

    def __init__(self, dimensions: int, width: int = 128, layers: int = 3) -> None:
        super().__init__(dimensions, 1, width, layers)

    def forward(self, x_ND: Tensor, conditioning: Conditioning = Conditioning()) -> Tensor:  # noqa: B008
        """Returns [N]."""
        return super().forward(x_ND).squeeze(1)
