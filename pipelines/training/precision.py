"""The precision of a run: what `auto` becomes, and how fp16 scales the loss."""

from __future__ import annotations

import platform
from collections.abc import Mapping

import torch
from torch import Tensor

from headrace.ranks.workers import Workers
from headrace.recipe import RunRecipe

X86 = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
"""torch's queries for the instructions that multiply bf16 on x86"""


def resolve(recipe: RunRecipe, workers: Workers) -> RunRecipe:
    """`recipe` with a precision in place of `auto`: bf16 if every rank's device has it natively, otherwise fp32.

    All ranks call this together and get the same result.
    """
    if recipe.training.precision != "auto":
        return recipe
    native = torch.tensor(float(native_bf16(workers.device)), device=workers.device)
    return recipe.changed("training", precision="bf16" if float(workers.mean(native)) == 1 else "fp32")


def native_bf16(device: torch.device) -> bool:
    """Whether `device` has bf16 instructions. Without them bf16 is emulated and many times slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if platform.machine().lower() in {"aarch64", "arm64"}:
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return any(getattr(torch.cpu, query, bool)() for query in X86)


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
        """Divide `gradients` by the scale, in place."""
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
