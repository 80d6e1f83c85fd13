"""Conversion between the pixels of image files (uint8, 0 to 255) and of networks (floating point, −1 to 1)."""

import torch
from torch import Tensor


def from_uint8(x: Tensor) -> Tensor:
    """Pixels from 0 to 255 (uint8 or floating point) as float32 in [−1, 1], of the same shape, on the same device."""
    return x.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """A network's images as uint8 of the same shape, on the CPU: clamped to [−1, 1] and rounded."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
