"""What a network predicts, as four coefficients that turn the network into a denoiser.

D(x, σ) = c_skip·x + c_out·F(c_in·x, c_noise(σ)) in the coordinates x = x₀ + σ·n (Karras et al. 2022, equation 7).
To add a prediction, add a class here and give it the name that recipes use.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headrace.models.schedule import Schedule


class Coefficients(NamedTuple):
    """One float64 value for each sample [N]; `c_noise` is the network's input for the noise level."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


class Preconditioning(nn.Module):
    """From noise levels σ (float64 [N], above 0) to coefficients."""

    def __init__(self, schedule: Schedule) -> None:
        """`schedule`: the noise levels that the network is trained on."""
        super().__init__()
        self.schedule = schedule

    def forward(self, sigma_N: Tensor) -> Coefficients:
        """The coefficients at these levels."""
        raise NotImplementedError


PREDICTIONS: dict[str, type[Preconditioning]] = {}
"""every prediction that an `objective` section may name"""


def prediction(name: str) -> Callable[[type[Preconditioning]], type[Preconditioning]]:
    """Register a class under the `name` that recipes use."""

    def register(kind: type[Preconditioning]) -> type[Preconditioning]:
        PREDICTIONS[name] = kind
        return kind

    return register


class VariancePreserving(Preconditioning):
    """The network takes √ᾱ·x, which has variance 1, and the step t(σ), where σ² = (1 − ᾱ)/ᾱ."""

    def forward(self, sigma_N: Tensor) -> Coefficients:
        return Coefficients(*self.outer(sigma_N), (sigma_N**2 + 1).rsqrt(), self.schedule.step(sigma_N))

    def outer(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """c_skip and c_out."""
        raise NotImplementedError


@prediction("epsilon")
class Epsilon(VariancePreserving):
    """The network predicts the noise n (Ho et al. 2020, equation 11)."""

    def outer(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(sigma), -sigma


@prediction("v")
class V(VariancePreserving):
    """The network predicts v = √ᾱ·n − √(1 − ᾱ)·x₀ (Salimans & Ho 2022, section 4)."""

    def outer(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return 1 / (sigma**2 + 1), -sigma * (sigma**2 + 1).rsqrt()


@prediction("x0")
class X0(VariancePreserving):
    """The network predicts the clean image."""

    def outer(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return torch.zeros_like(sigma), torch.ones_like(sigma)


@prediction("score")
class Score(Preconditioning):
    """The network predicts σ times the score (Karras et al. 2022, table 1, column VE; Song et al. 2021)."""

    def forward(self, sigma_N: Tensor) -> Coefficients:
        one = torch.ones_like(sigma_N)
        return Coefficients(one, sigma_N, one, (sigma_N / 2).log())


@prediction("edm")
class EDM(Preconditioning):
    """The network's input and target have variance 1 at every level (Karras et al. 2022, table 1, last column)."""

    def __init__(self, schedule: Schedule, sigma_data: float = 0.5) -> None:
        super().__init__(schedule)
        self.sigma_data = sigma_data

    def forward(self, sigma_N: Tensor) -> Coefficients:
        inverse = (sigma_N**2 + self.sigma_data**2).rsqrt()
        c_skip = (self.sigma_data * inverse) ** 2
        return Coefficients(c_skip, sigma_N * self.sigma_data * inverse, inverse, sigma_N.log() / 4)
