"""The precision of a run: `auto` becomes the type that the devices of all ranks compute in natively."""

import platform

import torch

from headrace.ranks.workers import Workers
from headrace.recipe import RunRecipe

X86 = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
"""torch's queries for the instructions that multiply bf16 on x86"""


def resolve(recipe: RunRecipe, workers: Workers) -> RunRecipe:
    """`recipe` with a precision in place of `auto`: bf16 if every rank's device has it natively, else fp32.

    All ranks call this together and get the same.
    """
    if recipe.training.precision != "auto":
        return recipe
    native = torch.tensor(float(native_bf16(workers.device)), device=workers.device)
    return recipe.changed("training", precision="bf16" if float(workers.mean(native)) == 1 else "fp32")


def native_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions for bf16. Where it has none, bf16 is emulated, many times slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if platform.machine().lower() in {"aarch64", "arm64"}:
        return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return any(getattr(torch.cpu, query, bool)() for query in X86)
