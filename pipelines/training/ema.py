"""The exponential moving average of a module's weights."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Ema:
    """Averaged copies of a module's parameters; buffers are taken as they are.

    After step n (from 1) each average a becomes a + (1 − d)·(p − a) with d = min(decay, n / (n + 9)), so that a short
    run is not dominated by the random weights that it started from.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self._module = module
        self.averages: dict[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in module.named_parameters()
        }

    def decay_at(self, step: int) -> float:
        """The decay used after step `step` (≥ 1)."""
        return min(self.decay, step / (step + 9))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move the averages towards the module's present weights, after step `step` (≥ 1)."""
        parameters: list[Tensor] = [parameter for _, parameter in self._module.named_parameters()]
        torch._foreach_lerp_(list(self.averages.values()), parameters, 1 - self.decay_at(step))

    def state_dict(self) -> dict[str, Tensor]:
        """Averages of the parameters and the module's buffers: what `module.load_state_dict` takes."""
        return {**self._module.state_dict(), **self.averages}

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take the averages from `state`. Raises KeyError if one is missing."""
        for name, average in self.averages.items():
            average.copy_(state[name])
