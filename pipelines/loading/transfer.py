"""Batches on their way to a device, one ahead of the one in use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from pipelines.loading.block import Batch


def moved(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """`batches` with their tensors on `device`; the next one's copy is begun before this one is handed out.

    On CUDA the copies run on a stream of their own from pinned memory, so they overlap with what the caller computes.
    """
    stream = torch.cuda.Stream(device) if device.type == "cuda" else None
    coming = [_send(next(batches, None), device, stream)]
    while (batch := coming.pop()) is not None:
        coming.append(_send(next(batches, None), device, stream))
        if stream is not None:
            _arrive(batch, stream)
        yield batch


def _send(batch: Batch | None, device: torch.device, stream: torch.cuda.Stream | None) -> Batch | None:
    """Begin the copies of a batch. The pinned tensors may be freed at once: PyTorch's cache waits for the stream."""
    if batch is None:
        return None
    with torch.cuda.stream(stream):
        return {name: _to(value, device) for name, value in batch.items()}


def _to(value: Any, device: torch.device) -> Any:
    return value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value


def _arrive(batch: Batch, stream: torch.cuda.Stream) -> None:
    """Have the caller's stream wait for the copies, and keep their memory until that stream is done with it."""
    current = torch.cuda.current_stream(stream.device)
    current.wait_stream(stream)
    for value in batch.values():
        if isinstance(value, torch.Tensor):
            value.record_stream(current)
