"""A rank's own piece of a tensor: all of it, or its rows where ranks share weights (FSDP2's DTensor)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard


def piece(tensor: Tensor) -> Tensor:
    """This rank's piece of `tensor`, sharing its memory."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor.detach()


def is_shared(tensor: Tensor) -> bool:
    """Whether other ranks hold other pieces of `tensor`."""
    return isinstance(tensor, DTensor)


def whole(own: Tensor, like: Tensor) -> Tensor:
    """The tensor of which `own`, on the CPU, is this rank's piece, cut as `like` is."""
    if not isinstance(like, DTensor):
        return own
    return DTensor.from_local(
        own, _on_cpu(like.device_mesh), like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def rows(like: Tensor) -> slice:
    """The rows that this rank holds of a tensor that is cut as `like` is."""
    if not isinstance(like, DTensor):
        return slice(None)
    start, size = 0, like.shape[0]
    for dimension, placement in enumerate(like.placements):
        if isinstance(placement, Shard):
            ranks, rank = like.device_mesh.size(dimension), like.device_mesh.get_local_rank(dimension)
            each = -(-size // ranks)
            start, size = start + min(rank * each, size), max(0, min(each, size - rank * each))
    return slice(start, start + size)


_CPU_MESHES: dict[int, DeviceMesh] = {}


def _on_cpu(mesh: DeviceMesh) -> DeviceMesh:
    if mesh.device_type == "cpu":
        return mesh
    if id(mesh) not in _CPU_MESHES:
        _CPU_MESHES[id(mesh)] = DeviceMesh("cpu", mesh.mesh, mesh_dim_names=mesh.mesh_dim_names)
    return _CPU_MESHES[id(mesh)]


class Staging:
    """Copies tensors to CPU memory that every save reuses; it is pinned for tensors on a GPU."""

    def __init__(self) -> None:
        self._copies: dict[str, Tensor] = {}

    def copies(self, group: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies of `tensors`, in memory of their own that the next call with this `group` overwrites."""
        found: dict[str, Tensor] = {}
        cuda = False
        for name, tensor in tensors.items():
            own = piece(tensor)
            cuda = cuda or own.is_cuda
            copy = self._copies.get(f"{group}/{name}")
            if copy is None or copy.shape != own.shape or copy.dtype != own.dtype:
                copy = torch.empty(own.shape, dtype=own.dtype, pin_memory=own.is_cuda)
                self._copies[f"{group}/{name}"] = copy
            copy.copy_(own, non_blocking=True)
            found[name] = whole(copy, tensor)
        if cuda:
            torch.cuda.synchronize()
        return found
