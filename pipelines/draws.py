"""Random draws that belong to a sample of the run, not to a batch, a rank or a device.

The generator is counter-based: each value is a hash of (seed, name, sample, index). It has no state, and values may be
drawn in any order. A resumed or redistributed run draws the same noise levels, noise and dropped captions.
"""

import hashlib
import math

import torch
from torch import Tensor

from headrace.splitmix import GOLDEN, finalize, shift


class Draws:
    """Random values for each of a step's samples.

    `samples` are int64 [N]: global positions in the run (samples seen before this step, plus the position within the
    global batch). Every value depends only on (seed, name, samples[i], index): the hash is exact integer arithmetic,
    and what follows is computed in float64, then rounded.
    """

    def __init__(self, seed: int, samples: Tensor, step: int = 0) -> None:
        """`step` is the training step (from 1) that the samples belong to; no value depends on it."""
        if samples.dtype != torch.int64 or samples.dim() != 1:
            raise ValueError(f"samples: found {samples.dtype} {list(samples.shape)}, expected int64 [N]")
        self.seed = seed
        self.samples = samples
        self.step = step

    def uniform(self, name: str, *shape: int) -> Tensor:
        """Uniform values in [0, 1): float32 [N, *shape], multiples of 2⁻²⁴."""
        bits = self._bits(name, math.prod(shape))
        return (shift(bits, 40).to(torch.float32) * 2.0**-24).view(-1, *shape)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal values: float32 [N, *shape], by Box & Muller (1958), 32 bits each for radius and angle."""
        count = math.prod(shape)
        bits = self._bits(name, (count + 1) // 2)
        radius = (-2 * torch.log((shift(bits, 32).to(torch.float64) + 0.5) * 2.0**-32)).sqrt()
        angle = (bits & 0xFFFFFFFF).to(torch.float64) * (2 * math.pi * 2.0**-32)
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
        return both[:, :count].to(torch.float32).view(-1, *shape)

    def _bits(self, name: str, count: int) -> Tensor:
        """64 random bits for each sample and index: int64 [N, count]."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        key = int.from_bytes(digest[:8], "little", signed=True)
        streams = finalize(finalize(self.samples * GOLDEN + key) ^ int.from_bytes(digest[8:16], "little", signed=True))
        index = torch.arange(1, count + 1, device=self.samples.device)
        return finalize(streams[:, None] + index * GOLDEN)
