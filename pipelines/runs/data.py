"""From a dataset to the batches that objectives take."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from deltalake import DeltaTable
from deltalake.exceptions import TableNotFoundError
from torch import Tensor

from headrace.errors import DataError, RecipeError
from headrace.images.pixels import Mode
from headrace.loading import ShardLoader
from headrace.models.conditions import NO_LABEL
from headrace.models.pixels import from_uint8
from headrace.models.tokens import CaptionTokenizer
from headrace.ranks.workers import Workers
from headrace.recipe.text import FrozenText
from headrace.recipe.training import Data


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
    for key in ("image", "caption", "label", "condition"):
        column = getattr(data, key)
        if column is not None and column not in columns:
            raise RecipeError(f"data.{key}: found {column!r}, expected a column of {data.path}: {', '.join(columns)}")
    return found


def captions(found: DeltaTable, column: str | None) -> Iterator[str]:
    """The captions of a dataset that are not null, in the order of its files, without reading any other column."""
    if column is None:
        return
    for batch in found.to_pyarrow_dataset().to_batches(columns=[column]):
        yield from (caption for caption in batch.column(0).to_pylist() if caption is not None)


def train_tokenizer(found: DeltaTable, data: Data, vocabulary: int, length: int, path: Path) -> None:
    """Learn the caption tokenizer from the dataset and save it at `path`, whole or not at all."""
    CaptionTokenizer.train(captions(found, data.caption), vocabulary, length).save(path)


def copy_tokenizer(text: FrozenText, path: Path) -> None:
    """Save the tokenizer of a frozen encoder at `path`, whole or not at all."""
    CaptionTokenizer.pretrained(Path(text.path) / "tokenizer.json", text.length).save(path)


def loader(data: Data, shape: tuple[int, int, int], seed: int, workers: Workers) -> ShardLoader:
    """This rank's loader of images of `shape` (channels, height, width): epoch after epoch without end.

    Raises RecipeError if a key of `data` does not fit the dataset, DataError if that has no sample at all.
    """
    return _loader(
        data,
        shape,
        **_rows(data),
        flip=data.flip,
        batch_size=workers.share(data.batch_size),
        seed=seed,
        rank=workers.rank,
        world_size=workers.world_size,
        threads=data.threads,
        epochs=None,
    )


def held_out(data: Data, shape: tuple[int, int, int], batch_size: int, workers: Workers) -> ShardLoader:
    """This rank's part of one pass over the dataset in its own order, in whole batches of `batch_size` a rank."""
    return _loader(
        data,
        shape,
        batch_size=batch_size,
        shuffle=False,
        rank=workers.rank,
        world_size=workers.world_size,
        threads=data.threads,
        epochs=1,
    )


def examples(data: Data, shape: tuple[int, int, int], count: int) -> ShardLoader:
    """The first `count` samples of an epoch in the dataset's own order, as one batch."""
    return _loader(data, shape, **_rows(data), batch_size=count, shuffle=False, epochs=1, drop_last=False)


def count(data: Data, shape: tuple[int, int, int]) -> int:
    """The samples of an epoch."""
    return len(_loader(data, shape, **_rows(data), batch_size=1, shuffle=False, epochs=1))


def one_pass(data: Data, shape: tuple[int, int, int], seed: int, batch_size: int) -> ShardLoader:
    """Each image of the dataset once, with one of its rows, in an order that `seed` fixes."""
    return _loader(
        data,
        shape,
        captions="one_per_image",
        image_key=data.image_key,
        batch_size=batch_size,
        seed=seed,
        threads=data.threads,
        epochs=1,
        drop_last=False,
    )


def _rows(data: Data) -> dict[str, Any]:
    """Which rows make an epoch."""
    return {"captions": data.captions, "image_key": data.image_key, "weight": data.weight}


def _loader(data: Data, shape: tuple[int, int, int], **settings: Any) -> ShardLoader:
    channels, height, width = shape
    decode: dict[str, Mode] = {data.image: "gray" if channels == 1 else "rgb"}
    if data.condition is not None:
        decode[data.condition] = "gray"
    columns = [column for column in (data.image, data.caption, data.label, data.condition) if column is not None]
    try:
        return ShardLoader(
            data.path,
            version=data.version,
            where=data.where,
            columns=columns,
            decode=decode,
            size=(height, width),
            **settings,
        )
    except RecipeError as error:
        raise RecipeError(f"data.{error}") from None


class Collator:
    """Makes what objectives take of what the loader gives, on the rank's device."""

    def __init__(
        self, data: Data, tokenizer: CaptionTokenizer | None, device: torch.device, labels: int | None = None
    ) -> None:
        """`tokenizer` is None where captions are not used, `labels` where labels are not, or any will do."""
        self.data, self.tokenizer, self.device, self.labels = data, tokenizer, device, labels

    def __call__(self, raw: dict[str, Any]) -> dict[str, Tensor]:
        """`image` float32 [N, C, H, W] in [−1, 1] and, as far as `data` names their columns,

        `tokens` int64 [N, L] and `tokens_mask` bool [N, L]; `label` int64 [N]; `condition` float32 [N, 1, H, W]
        in [0, 1]. Raises DataError for labels that are no whole numbers or that the model does not know.
        """
        batch = {"image": from_uint8(self._move(raw[self.data.image]))}
        if self.tokenizer is not None and self.data.caption is not None:
            tokens_NL, mask_NL = self.tokenizer.encode(raw[self.data.caption])
            batch |= {"tokens": self._move(tokens_NL), "tokens_mask": self._move(mask_NL)}
        if self.data.label is not None:
            batch["label"] = self._move(self._label(raw[self.data.label]))
        if self.data.condition is not None:
            batch["condition"] = self._move(raw[self.data.condition]).float() / 255
        return batch

    def _label(self, label: Any) -> Tensor:
        if not isinstance(label, Tensor) or label.is_floating_point():
            raise DataError(f"data.label: found a column {self.data.label!r} of text, expected whole numbers")
        if self.labels is not None and not ((label >= NO_LABEL) & (label < self.labels)).all():
            found = sorted(set(label[(label < NO_LABEL) | (label >= self.labels)].tolist()))
            expected = f"expected labels from 0 to {self.labels - 1}, as model.labels is"
            raise DataError(f"data.label: found {found}, {expected}")
        return label

    def _move(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)
