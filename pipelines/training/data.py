"""From a dataset to the batches that objectives take."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from torch import Tensor

from pipelines.errors import RecipeError
from pipelines.loading import ShardLoader
from pipelines.models.tokens import CaptionTokenizer
from pipelines.recipe.training import Data
from pipelines.training.workers import Workers


def table(data: Data) -> DeltaTable:
    """The dataset's Delta table at the version asked for. Raises RecipeError if it or a column is not there."""
    try:
        found = DeltaTable(data.path, version=data.version)
    except TableNotFoundError:
        expected = "expected one that `headrace build` made"
        raise RecipeError(f"data.path: found no dataset at {data.path}, {expected}") from None
    except Exception as error:  # deltalake raises its own errors and those of object stores
        if data.version is None:
            raise
        raise RecipeError(f"data.version: found {data.version}, which cannot be read: {error}") from None
    columns = [field.name for field in found.schema().fields]
    for key, column in (("image", data.image), ("caption", data.caption)):
        if column not in columns:
            raise RecipeError(f"data.{key}: found {column!r}, expected a column of {data.path}: {', '.join(columns)}")
    return found


def captions(found: DeltaTable, column: str) -> Iterator[str]:
    """The captions of a dataset that are not null, in the order of its files, without reading any other column."""
    for batch in found.to_pyarrow_dataset().to_batches(columns=[column]):
        yield from (caption for caption in batch.column(0).to_pylist() if caption is not None)


def train_tokenizer(found: DeltaTable, data: Data, vocabulary: int, length: int, path: Path) -> None:
    """Learn the caption tokenizer from the dataset and save it at `path`, whole or not at all."""
    hidden = path.with_name(f".{path.name}.tmp")
    CaptionTokenizer.train(captions(found, data.caption), vocabulary, length).save(hidden)
    hidden.rename(path)


def loader(data: Data, resolution: int, seed: int, workers: Workers) -> ShardLoader:
    """This rank's loader: epoch after epoch without end.

    Raises RecipeError if a key of `data` does not fit the dataset, DataError if that has no sample at all.
    """
    try:
        return _loader(data, resolution, seed, workers)
    except RecipeError as error:
        raise RecipeError(f"data.{error}") from None


def _loader(data: Data, resolution: int, seed: int, workers: Workers) -> ShardLoader:
    return ShardLoader(
        data.path,
        version=data.version,
        columns=[data.image, data.caption],
        decode={data.image: "rgb"},
        size=resolution,
        captions=data.captions,
        image_key=data.image_key,
        weight=data.weight,
        batch_size=workers.share(data.batch_size),
        seed=seed,
        rank=workers.rank,
        world_size=workers.world_size,
        threads=data.threads,
        epochs=None,
    )


class Collator:
    """Makes what objectives take of what the loader gives, on the rank's device."""

    def __init__(self, data: Data, tokenizer: CaptionTokenizer, device: torch.device) -> None:
        self.data, self.tokenizer, self.device = data, tokenizer, device

    def __call__(self, raw: dict[str, Any]) -> dict[str, Tensor]:
        """`image` float32 [N, 3, H, W] in [−1, 1], `tokens` int64 [N, L], `tokens_mask` bool [N, L]."""
        captions: Sequence[str | None] = raw[self.data.caption]
        tokens_NL, mask_NL = self.tokenizer.encode(captions)
        image_NCHW = self._move(raw[self.data.image]).float() / 127.5 - 1
        return {"image": image_NCHW, "tokens": self._move(tokens_NL), "tokens_mask": self._move(mask_NL)}

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)
