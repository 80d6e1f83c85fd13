"""The number of operations in a training step, and the peak rates of GPUs."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from headrace.objectives.objective import Batch
from headrace.training.trainer import Trainer

PEAKS: dict[str, dict[torch.dtype, float]] = {
    "H200": {torch.bfloat16: 989e12, torch.float16: 989e12, torch.float32: 67e12},
    "H100": {torch.bfloat16: 989e12, torch.float16: 989e12, torch.float32: 67e12},
    "A100": {torch.bfloat16: 312e12, torch.float16: 312e12, torch.float32: 19.5e12},
    "L40S": {torch.bfloat16: 362e12, torch.float16: 362e12, torch.float32: 91.6e12},
    "L4": {torch.bfloat16: 121e12, torch.float16: 121e12, torch.float32: 30.3e12},
    "V100": {torch.float16: 125e12, torch.float32: 15.7e12},
}
"""dense operations per second, from NVIDIA's data sheets"""


def peak(device_name: str, dtype: torch.dtype) -> float | None:
    """The peak operations per second of a GPU of that name; None if it is not known."""
    for name, peaks in PEAKS.items():
        if name in device_name:
            return peaks.get(dtype)
    return None


def per_step(trainer: Trainer, batch: Batch) -> float:
    """The operations that the model needs for one step on this rank: three times those of its forward passes.

    A backward pass takes twice as many as its forward pass (Kaplan et al. 2020, section 2.1). Recomputation by
    activation checkpointing does not count. A phase that runs every k-th step counts as 1/k of one.
    """
    parts = list(trainer.parts(batch, 0))
    total = 0.0
    for step in trainer.phase_steps:
        step.begin()
        counter = FlopCounterMode(display=False)
        with torch.no_grad() if len(trainer.phase_steps) == 1 else torch.enable_grad(), counter, trainer.autocast:
            trainer.ranks.plain(step.phase.name, *parts[0])
        total += 3 * counter.get_total_flops() * len(parts) / step.phase.every
    trainer.ranks.reshard()
    return total
