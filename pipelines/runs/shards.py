"""Pieces of tensors on disk, written by all ranks together: torch.distributed.checkpoint over safetensors.

Its own format has a pickle for its metadata; the safetensors one has them as JSON in each file's header.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from headrace.files import sha256, sync
from headrace.ranks.pieces import piece, rows, whole

FOLDER = "shards"
BETWEEN = "//"


def write(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]], group: Any) -> dict[str, str]:
    """Write this rank's pieces into `folder`, which is there; returns the checksums of the files that it wrote.

    All ranks of `group` call it, and its end is theirs together.
    """
    flat = {f"{name}{BETWEEN}{key}": tensor for name, named in tensors.items() for key, tensor in named.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        save(flat, storage_writer=writer, process_group=group)
    mine = sorted(folder.glob(f"shard-{dist.get_rank(group) + 1:05d}-*.safetensors"))
    for file in mine:
        sync(file)
    return {f"{FOLDER}/{file.name}": sha256(file) for file in mine}


def names(folder: Path, group: str) -> list[str]:
    """The names of the tensors of one group."""
    return list(shapes(folder, group))


def shapes(folder: Path, group: str) -> dict[str, Tensor]:
    """Whole tensors of one group, without values: what `read` takes."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    prefix = f"{group}{BETWEEN}"
    return {
        key.removeprefix(prefix): torch.empty(entry.size, dtype=entry.properties.dtype, device="meta")
        for key, entry in found.items()
        if key.startswith(prefix) and isinstance(entry, TensorStorageMetadata)
    }


def read(folder: Path, group: str, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This rank's pieces of the tensors of one group, cut as those of `like` are.

    However many ranks wrote them: only what is needed is read. Raises ValueError if shapes differ.
    """
    stored = shapes(folder, group)
    targets: dict[str, Tensor] = {}
    for name, tensor in like.items():
        if stored[name].shape != tensor.shape:
            raise ValueError(f"{name} is {list(stored[name].shape)}, expected {list(tensor.shape)}")
        shape = list(tensor.shape)
        if shape:
            cut = rows(tensor)
            shape[0] = len(range(*cut.indices(shape[0])))
        targets[f"{group}{BETWEEN}{name}"] = whole(torch.empty(shape, dtype=stored[name].dtype), tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(targets, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return {name: piece(targets[f"{group}{BETWEEN}{name}"]) for name in like}
