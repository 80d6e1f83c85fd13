"""A network that is 1-Lipschitz for any weights, for Kantorovich–Rubinstein potentials."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal


def sort_pairs(x_ND: Tensor) -> Tensor:
    """Sort each pair of channels: GroupSort with groups of 2, which preserves gradient norms.

    Anil, Lucas & Grosse 2019.
    """
    pairs_NPD = x_ND.unflatten(-1, (2, -1))
    return torch.cat([pairs_NPD.amin(-2), pairs_NPD.amax(-2)], -1)


def orthonormal(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer whose matrix has orthonormal rows or columns for any parameters, by Cayley's transform.

    For matrices that are not square torch's default is Householder reflections, which are orthonormal only for some
    parameters.
    """
    layer: nn.Linear = orthogonal(nn.Linear(inputs, outputs), orthogonal_map="cayley")  # type: ignore[assignment]
    return layer


class Lipschitz(nn.Module):
    """|f(x) − f(y)| ≤ ‖x − y‖₂: matrices with orthonormal rows or columns, with pairwise sorting between them.

    Anil, Lucas & Grosse 2019, section 4: unlike ReLU networks with bounded weights, these can approximate any
    1-Lipschitz function. Sums are in the dtype of x, so the bound holds up to rounding.
    """

    def __init__(self, dimensions: int, width: int = 32, layers: int = 3) -> None:
        """Raises ValueError if `width` is odd."""
        super().__init__()
        if width % 2:
            raise ValueError(f"width: found {width}, expected an even number of channels")
        widths = [dimensions, *[width] * layers]
        self.blocks = nn.ModuleList(orthonormal(a, b) for a, b in pairwise(widths))
        self.out = orthonormal(width, 1)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Returns [N]."""
        for block in self.blocks:
            x_ND = sort_pairs(block(x_ND))
        return self.out(x_ND).squeeze(1)
