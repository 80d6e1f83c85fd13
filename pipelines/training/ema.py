"""The exponential moving average of a module's weights."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from headrace.ranks.pieces import piece


class Ema:
    """Averaged copies of parameters, or of this rank's pieces of them.

    After step n (from 1) each average a becomes a + (1 − d)·(p − a). With a constant decay, d = min(decay, n/(n + 9)),
    so that the random initial weights do not dominate a short run. With a `width`, d is (1 − 1/n)^(γ + 1): the weights
    of step k count as k^γ (Karras et al. 2024, equation 2), and `width` is the standard deviation of that profile as a
    fraction of the run so far, whatever its length.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decay: float, width: float | None = None) -> None:
        self.decay = decay
        self.exponent = None if width is None else exponent(width)
        self._parameters = {name: piece(parameter) for name, parameter in parameters.items()}
        self.averages: dict[str, Tensor] = {name: own.clone() for name, own in self._parameters.items()}

    def decay_at(self, step: int) -> float:
        """The decay used after step `step` (≥ 1)."""
        if self.exponent is not None:
            return float((1 - 1 / step) ** (self.exponent + 1))
        return min(self.decay, step / (step + 9))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the current weights, after step `step` (≥ 1)."""
        torch._foreach_lerp_(list(self.averages.values()), list(self._parameters.values()), 1 - self.decay_at(step))

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange weights and averages. A second call undoes the first."""
        for name, average in self.averages.items():
            own = self._parameters[name]
            kept = own.clone()
            own.copy_(average)
            average.copy_(kept)

    @torch.no_grad()
    def load(self, averages: Mapping[str, Tensor]) -> None:
        """Restore the averages. Raises KeyError if one is missing."""
        for name, average in self.averages.items():
            average.copy_(averages[name])


def exponent(width: float) -> float:
    """γ of the profile k^γ whose standard deviation is the fraction `width`, in (0, 1/√12), of its length.

    That fraction is √((γ + 1) / ((γ + 2)²·(γ + 3))) (Karras et al. 2024, appendix C), which gives a cubic in γ.
    """
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    return float(roots.real.max())
