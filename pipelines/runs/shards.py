"""Tensors that several ranks hold pieces of, written by all of them together with torch.distributed.checkpoint.

DCP's own format stores its metadata as a pickle. Its safetensors storage stores them as JSON in each file's header.
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


def write(folder: Path, tensors: Mapping[str, Tensor], group: Any) -> dict[str, str]:
    """Write this rank's pieces into `folder`, which exists; returns the SHA-256 of each file it wrote, by file name.

    Every rank of the process group calls this, and it returns once all of them have written.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        save(dict(tensors), storage_writer=writer, process_group=group)
    mine = sorted(folder.glob(f"shard-{dist.get_rank(group) + 1:05d}-*.safetensors"))
    for file in mine:
        sync(file)
    return {file.name: sha256(file) for file in mine}


def shapes(folder: Path) -> dict[str, Tensor]:
    """The tensors in `folder` by name, whole and without values (on the meta device): `read` takes them."""
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {
        name: torch.empty(entry.size, dtype=entry.properties.dtype, device="meta")
        for name, entry in found.items()
        if isinstance(entry, TensorStorageMetadata)
    }


def read(folder: Path, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This rank's pieces of the tensors in `folder`, cut as those of `like` are, on the CPU.

    Any number of ranks may have written them; only what is needed is read. Raises ValueError if shapes differ.
    """
    stored = shapes(folder)
    targets: dict[str, Tensor] = {}
    for name, tensor in like.items():
        if stored[name].shape != tensor.shape:
            raise ValueError(f"{name} is {list(stored[name].shape)}, expected {list(tensor.shape)}")
        shape = list(tensor.shape)
        if shape:
            cut = rows(tensor)
            shape[0] = len(range(*cut.indices(shape[0])))
        targets[name] = whole(torch.empty(shape, dtype=stored[name].dtype), tensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        load(targets, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return {name: piece(targets[name]) for name in like}
