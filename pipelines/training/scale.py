"""The scale of the loss under fp16."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

START, GROWTH, BACKOFF, PATIENCE = 2.0**16, 2.0, 0.5, 2000


class LossScale:
    """Multiplies the loss so that small gradients do not vanish in fp16 (Micikevicius et al. 2018, section 3.2).

    The scale halves when gradients overflow and doubles after 2,000 steps without an overflow. Its state stays on the
    device, so nothing waits for it. With `on=False` the scale stays 1.
    """

    def __init__(self, device: torch.device, on: bool) -> None:
        self._on = on
        self._scale = torch.tensor(START if on else 1.0, device=device)
        self._good = torch.tensor(0.0, device=device)

    def up(self, loss: Tensor) -> Tensor:
        """The loss to call `backward` on."""
        return loss * self._scale if self._on else loss

    def down(self, gradients: list[Tensor]) -> None:
        """Take the scale out of `gradients`, in place."""
        if self._on:
            torch._foreach_mul_(gradients, self._scale.reciprocal())

    def update(self, finite: Tensor) -> None:
        """Update the scale after a step; `finite` says whether its gradients were finite (a bool scalar)."""
        if not self._on:
            return
        good = torch.where(finite, self._good + 1, 0.0)
        grown = torch.where(good >= PATIENCE, self._scale * GROWTH, self._scale)
        self._scale.copy_(torch.where(finite, grown, self._scale * BACKOFF))
        self._good.copy_(torch.where(good >= PATIENCE, 0.0, good))

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors that the next step depends on."""
        return {"scale": self._scale, "good": self._good}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self._scale.copy_(state["scale"])
        self._good.copy_(state["good"])
