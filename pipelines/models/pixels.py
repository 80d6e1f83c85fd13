"""Between the pixels of image files, uint8 from 0 to 255, and those of networks, floating point from −1 to 1."""

import torch
from torch import Tensor


def from_uint8(x: Tensor) -> Tensor:
    """uint8 as float32 in [−1, 1], of the same shape and on the same device; floating point from 0 to 255 alike."""
    return x.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """What networks draw as uint8 of the same shape, on the CPU: rounded, and cut off outside of [−1, 1]."""
    return ((x.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()
