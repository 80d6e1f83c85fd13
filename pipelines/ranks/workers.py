"""The processes of a run: which rank this one is, and a few collective operations."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from headrace.errors import RecipeError


@dataclass(frozen=True)
class Workers:
    """One of `world_size` processes that train together, and its own device."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes the run folder and shows progress."""
        return self.rank == 0

    def share(self, batch_size: int) -> int:
        """The samples of this rank in a global batch. Raises RecipeError if the batch cannot be divided equally."""
        if batch_size % self.world_size:
            raise RecipeError(
                f"data.batch_size: found {batch_size}, expected a multiple of the {self.world_size} ranks that train"
            )
        return batch_size // self.world_size

    def mean(self, figures: Tensor) -> Tensor:
        """The mean over the ranks of `figures` (any shape, the same on all); in place."""
        if self.world_size > 1:
            dist.all_reduce(figures)
            figures /= self.world_size
        return figures

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.world_size > 1:
            dist.all_reduce(torch.zeros(1, device=self.device))


@contextmanager
def join() -> Iterator[Workers]:
    """Join the processes started by `torchrun` (or another launcher that sets RANK and WORLD_SIZE), if there are any.

    Collectives run over NCCL on GPUs and over gloo on CPUs. Each rank of a machine takes the GPU of its LOCAL_RANK.
    """
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    local_rank = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank % torch.cuda.device_count())
        torch.cuda.set_device(device)
    if world_size > 1:
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        # torchrun keeps its store over restarts: under the same name, a rank would find the addresses of dead ranks.
        store, rank, world_size = next(rendezvous("env://", rank, world_size))
        start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        store = PrefixStore(f"headrace/{start}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=world_size)
    workers = Workers(rank, world_size, device)
    workers.barrier()  # a rank that exits at once, say for a bad recipe, may host the store that others still read
    yield workers
    if world_size > 1:  # not in a `finally`: after an error the other ranks are not there to answer
        dist.destroy_process_group()
