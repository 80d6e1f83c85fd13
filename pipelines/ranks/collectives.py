"""Collective operations for networks that several ranks train. On a single rank each is the identity."""

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor


def total(values: Tensor) -> Tensor:
    """The sum of `values` (of one shape on all ranks) over the ranks; in place."""
    if dist.is_initialized():
        dist.all_reduce(values)
    return values


def mean(values: Tensor) -> Tensor:
    """The mean of `values` (of one shape on all ranks) over the ranks; in place."""
    if dist.is_initialized():
        total(values).div_(dist.get_world_size())
    return values


def joined(values: Tensor) -> Tensor:
    """The rows of all ranks (of one shape on all ranks), rank after rank."""
    if not dist.is_initialized():
        return values
    parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def whole(values: Tensor) -> Tensor:
    """`values` as a whole tensor, gathered if each rank holds a piece."""
    return values.full_tensor() if isinstance(values, DTensor) else values


def assign(target: Tensor, values: Tensor) -> None:
    """Set `target`, of which each rank may hold a piece, to `values`, which are whole and the same on all ranks."""
    if isinstance(target, DTensor):
        values = distribute_tensor(values, target.device_mesh, target.placements, src_data_rank=None)
    target.copy_(values)
