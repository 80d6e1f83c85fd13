"""How ranks share the work: gradients only (DDP), or also weights and optimizers (FSDP2, HSDP)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel

from headrace.activation import blocks_of
from headrace.draws import Draws
from headrace.errors import RecipeError
from headrace.objectives.objective import Batch, Loss, Phase
from headrace.ranks.workers import Workers
from headrace.recipe.training import Training

Figures = tuple[Tensor, dict[str, Tensor]]


class PhaseLosses(nn.Module):
    """The losses of phases as one module that owns the networks.

    DDP and FSDP2 wrap this module instead of a network. An objective can therefore call any method of its networks, any
    number of times, without knowing about ranks.
    """

    def __init__(self, losses: Mapping[str, Loss], networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.losses = dict(losses)
        self.networks = nn.ModuleDict(networks)

    def forward(self, phase: str, batch: Batch, draws: Draws) -> Figures:
        """The mean loss of a phase over the samples, and figures to log."""
        return self.losses[phase](batch, draws)


class SingleDevice:
    """A single rank, which shares nothing. Also the base class of `DataParallel` and `FullySharded`."""

    shares_weights = False
    """whether a rank holds only pieces of the weights"""

    def __init__(self, phases: Mapping[str, Phase], networks: Mapping[str, nn.Module]) -> None:
        self._losses = PhaseLosses({name: phase.loss for name, phase in phases.items()}, networks)

    def loss(self, phase: str, batch: Batch, draws: Draws) -> Figures:
        """The mean loss over this rank's samples, and figures to log."""
        return self._losses(phase, batch, draws)

    def plain(self, phase: str, batch: Batch, draws: Draws) -> Figures:
        """The same as `loss`, but no backward pass may follow."""
        return self._losses(phase, batch, draws)

    @contextmanager
    def part(self, phase: str, last: bool) -> Iterator[None]:
        """Wrap the forward and backward pass of one part of a batch. The last part averages gradients over ranks."""
        yield

    def norm(self, gradients: list[Tensor]) -> Tensor:
        """The norm of all gradients of a network, of which this rank holds `gradients`: a scalar on the device."""
        return nn.utils.get_total_norm(gradients)

    def reshard(self) -> None:
        """Free the weights that were gathered for forward passes without a backward pass."""


class DataParallel(SingleDevice):
    """DDP: every rank holds all weights, and gradients are averaged. Each phase wraps its own networks."""

    def __init__(self, phases: Mapping[str, Phase], networks: Mapping[str, nn.Module]) -> None:
        super().__init__(phases, networks)
        self._ddp = {
            name: DistributedDataParallel(
                PhaseLosses({name: phase.loss}, {network: networks[network] for network in phase.networks})
            )
            for name, phase in phases.items()
        }

    def loss(self, phase: str, batch: Batch, draws: Draws) -> Figures:
        return self._ddp[phase](phase, batch, draws)

    @contextmanager
    def part(self, phase: str, last: bool) -> Iterator[None]:
        if last:
            yield
            return
        with self._ddp[phase].no_sync():
            yield


class FullySharded(SingleDevice):
    """FSDP2 and HSDP: each rank of a group holds a piece of weights, gradients, averages and optimizer state.

    A block's weights are gathered while it runs, all others for the whole pass (Zhao et al. 2023; `fully_shard`).
    """

    shares_weights = True

    def __init__(self, phases: Mapping[str, Phase], networks: Mapping[str, nn.Module], mesh: DeviceMesh) -> None:
        super().__init__(phases, networks)
        self._group = mesh.get_group(mesh.ndim - 1)
        for parameter in self._losses.parameters():  # a channels-last kernel has no contiguous rows to shard
            parameter.data = parameter.data.contiguous()
        for block in dict.fromkeys(block for network in networks.values() for block in blocks_of(network)):
            if any(True for _ in block.parameters()):
                fully_shard(block, mesh=mesh)
        self._root = fully_shard(self._losses, mesh=mesh)
        # FSDP2 warns that a block's output is a view, which must not be changed in place. Nothing here does that.
        warnings.filterwarnings("ignore", message="FSDP2-wrapped module")

    @contextmanager
    def part(self, phase: str, last: bool) -> Iterator[None]:
        self._root.set_requires_gradient_sync(last)
        yield

    def norm(self, gradients: list[Tensor]) -> Tensor:
        square = super().norm(gradients).square()
        torch.distributed.all_reduce(square, group=self._group)
        return square.sqrt()

    def reshard(self) -> None:
        for module in self._losses.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def share(
    phases: Mapping[str, Phase], networks: Mapping[str, nn.Module], training: Training, workers: Workers
) -> SingleDevice:
    """Distribute the networks over the ranks as `training.parallel` says. Call it before anything holds parameters.

    Raises RecipeError if `training.shard` does not divide the ranks.
    """
    if workers.world_size == 1:
        return SingleDevice(phases, networks)
    if training.parallel == "ddp":
        return DataParallel(phases, networks)
    return FullySharded(phases, networks, _mesh(training, workers))


def check(training: Training, workers: Workers) -> None:
    """Raise RecipeError if `training.shard` does not divide the ranks."""
    if training.parallel == "hsdp" and workers.world_size % _shard(training, workers):
        expected = f"expected a divisor of the {workers.world_size} ranks that train"
        raise RecipeError(f"training.shard: found {_shard(training, workers)}, {expected}")


def _shard(training: Training, workers: Workers) -> int:
    return training.shard or int(os.environ.get("LOCAL_WORLD_SIZE", workers.world_size))


def _mesh(training: Training, workers: Workers) -> DeviceMesh:
    kind, ranks = workers.device.type, workers.world_size
    if training.parallel == "fsdp":
        return init_device_mesh(kind, (ranks,), mesh_dim_names=("shard",))
    shard = _shard(training, workers)
    return init_device_mesh(kind, (ranks // shard, shard), mesh_dim_names=("replicate", "shard"))
