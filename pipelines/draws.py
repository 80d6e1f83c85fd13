"""Random draws that belong to a sample of the run, not to a batch, a rank or a device.

A counter-based generator: each value is a hash of (seed, name, sample, index), so it needs no state, may be drawn in
any order, and a resumed or redistributed run draws the same times, noise and dropped captions.
"""

import hashlib
import math

import torch
from torch import Tensor


def _signed(value: int) -> int:
    """The int64 whose bits are those of the unsigned `value`."""
    return value - (1 << 64) if value >= 1 << 63 else value


# The increment and the multipliers of SplitMix64 (Steele, Lea & Flood 2014, figure 16, variant of Stafford).
_GOLDEN = _signed(0x9E3779B97F4A7C15)
_FIRST = _signed(0xBF58476D1CE4E5B9)
_SECOND = _signed(0x94D049BB133111EB)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift right of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finalizer: a bijection of 64 bits in which each input bit flips each output bit half of the time."""
    x = (x ^ _shift(x, 30)) * _FIRST
    x = (x ^ _shift(x, 27)) * _SECOND
    return x ^ _shift(x, 31)


class Draws:
    """Random values for each of a step's samples.

    `samples` are int64 [N]: global positions in the run (samples seen before this step, plus the position within the
    global batch). Every value depends on (seed, name, samples[i], index) alone: the hash is exact integer arithmetic
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
        return (_shift(bits, 40).to(torch.float32) * 2.0**-24).view(-1, *shape)

    def normal(self, name: str, *shape: int) -> Tensor:
        """Standard normal values: float32 [N, *shape], by Box & Muller (1958) from 32 bits each of radius and angle."""
        count = math.prod(shape)
        bits = self._bits(name, (count + 1) // 2)
        radius = (-2 * torch.log((_shift(bits, 32).to(torch.float64) + 0.5) * 2.0**-32)).sqrt()
        angle = (bits & 0xFFFFFFFF).to(torch.float64) * (2 * math.pi * 2.0**-32)
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], 1)
        return both[:, :count].to(torch.float32).view(-1, *shape)

    def _bits(self, name: str, count: int) -> Tensor:
        """64 random bits for each sample and index: int64 [N, count]."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        key = int.from_bytes(digest[:8], "little", signed=True)
        streams = _mix(_mix(self.samples * _GOLDEN + key) ^ int.from_bytes(digest[8:16], "little", signed=True))
        index = torch.arange(1, count + 1, device=self.samples.device)
        return _mix(streams[:, None] + index * _GOLDEN)
