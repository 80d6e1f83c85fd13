"""From a dataset to the batches that objectives take: loaders as the `data` section describes them, and a collator."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from headrace.errors import DataError, RecipeError
from headrace.images.pixels import Mode
from headrace.loading import ShardLoader
from headrace.loading.table.plan import has_log, plan
from headrace.models.conditions import NO_LABEL
from headrace.models.pixels import from_uint8
from headrace.models.tokens import CaptionTokenizer
from headrace.ranks.workers import Workers
from headrace.recipe.training import Data

Shape = tuple[int, int, int]
"""channels, height and width of an image"""


def version_of(data: Data) -> int:
    """The version of the dataset that a run reads: the one that `data` names, or else the newest.

    Raises RecipeError if there is no dataset, no such version, or no such column; DataError if it cannot be read.
    """
    if not has_log(data.path, data.storage_options or None):
        expected = "expected one that `headrace build` made"
        raise RecipeError(f"data.path: found no dataset at {data.path}, {expected}")
    try:
        found = plan(data.path, data.version, data.storage_options or None)
    except DataError as error:
        if data.version is None:
            raise
        raise RecipeError(f"data.version: found {data.version}, which cannot be read: {error}") from None
    columns = found.schema.names
    for key in ("image", "caption", "label", "condition"):
        column = getattr(data, key)
        if column is not None and column not in columns:
            raise RecipeError(f"data.{key}: found {column!r}, expected a column of {data.path}: {', '.join(columns)}")
    assert found.place.version is not None
    return found.place.version


def loader(data: Data, shape: Shape, seed: int, workers: Workers) -> ShardLoader:
    """This rank's loader of images of `shape`, which starts epoch after epoch without end.

    Raises RecipeError if a key of `data` does not fit the dataset, DataError if the dataset is empty.
    """
    return _loader(
        data,
        shape,
        **_rows(data),
        crop=data.crop,
        flip=data.flip,
        batch_size=workers.share(data.batch_size),
        seed=seed,
        rank=workers.rank,
        world_size=workers.world_size,
        lanes=data.lanes,
        window=data.window,
        epochs=None,
    )


def held_out(data: Data, shape: Shape, batch_size: int, workers: Workers) -> ShardLoader:
    """This rank's part of one pass in the order of the table, in full batches of `batch_size` for each rank."""
    return _loader(
        data,
        shape,
        batch_size=batch_size,
        shuffle=False,
        rank=workers.rank,
        world_size=workers.world_size,
        epochs=1,
    )


def examples(data: Data, shape: Shape, count: int) -> ShardLoader:
    """The first `count` samples of the table, as the first batch."""
    return _loader(data, shape, **_rows(data), batch_size=count, shuffle=False, epochs=1, drop_last=False)


def count(data: Data, shape: Shape) -> int:
    """The number of samples in an epoch."""
    return len(_loader(data, shape, **_rows(data), batch_size=1, shuffle=False, epochs=1))


def one_pass(data: Data, shape: Shape, seed: int, batch_size: int) -> ShardLoader:
    """Each image of the dataset once, with one of its rows, in an order that `seed` determines."""
    return _loader(
        data,
        shape,
        captions="one_per_image",
        image_key=data.image_key,
        batch_size=batch_size,
        seed=seed,
        epochs=1,
        drop_last=False,
    )


def _rows(data: Data) -> dict[str, Any]:
    """The arguments that choose the rows of an epoch."""
    return {"captions": data.captions, "image_key": data.image_key, "weight": data.weight}


def reading(data: Data) -> dict[str, Any]:
    """The arguments of every loader of the dataset: what is read, from where, and with which resources."""
    names = ("version", "where", "on_bad_sample", "threads", "memory", "prefetch", "timeout", "cache", "cache_bytes")
    return {name: getattr(data, name) for name in names} | {"storage_options": data.storage_options or None}


def _loader(data: Data, shape: Shape, **settings: Any) -> ShardLoader:
    channels, height, width = shape
    decode: dict[str, Mode] = {data.image: "gray" if channels == 1 else "rgb"}
    if data.condition is not None:
        decode[data.condition] = "gray"
    columns = [column for column in (data.image, data.caption, data.label, data.condition) if column is not None]
    settings = {"crop": "centre" if data.crop == "random" else data.crop, **settings}
    try:
        return ShardLoader(data.path, columns=columns, decode=decode, size=(height, width), **reading(data), **settings)
    except RecipeError as error:
        raise RecipeError(f"data.{error}") from None


class Collator:
    """Turns the loader's batches into the tensors that objectives take, on the rank's device."""

    def __init__(
        self, data: Data, tokenizer: CaptionTokenizer | None, device: torch.device, labels: int | None = None
    ) -> None:
        """`tokenizer` is None if captions are not used. `labels` is the number of classes, or None to allow any."""
        self.data, self.tokenizer, self.device, self.labels = data, tokenizer, device, labels

    def __call__(self, raw: dict[str, Any]) -> dict[str, Tensor]:
        """`image` float32 [N, C, H, W] in [−1, 1] and, for the columns that `data` names,

        `tokens` int64 [N, L] and `tokens_mask` bool [N, L]; `label` int64 [N]; `condition` float32 [N, 1, H, W]
        in [0, 1]. Raises DataError for labels that are not whole numbers or that the model does not have.
        """
        batch = {"image": from_uint8(self._on_device(raw[self.data.image]))}
        if self.tokenizer is not None and self.data.caption is not None:
            tokens_NL, mask_NL = self.tokenizer.encode(raw[self.data.caption])
            batch |= {"tokens": self._on_device(tokens_NL), "tokens_mask": self._on_device(mask_NL)}
        if self.data.label is not None:
            batch["label"] = self._on_device(self._label(raw[self.data.label]))
        if self.data.condition is not None:
            batch["condition"] = self._on_device(raw[self.data.condition]).float() / 255
        return batch

    def _label(self, label: Any) -> Tensor:
        if not isinstance(label, Tensor) or label.is_floating_point():
            raise DataError(f"data.label: found a column {self.data.label!r} of text, expected whole numbers")
        if self.labels is not None and not ((label >= NO_LABEL) & (label < self.labels)).all():
            found = sorted(set(label[(label < NO_LABEL) | (label >= self.labels)].tolist()))
            expected = f"expected labels from 0 to {self.labels - 1}, as model.labels is"
            raise DataError(f"data.label: found {found}, {expected}")
        return label

    def _on_device(self, tensor: Tensor) -> Tensor:
        if self.device.type == "cpu":
            return tensor
        return tensor.pin_memory().to(self.device, non_blocking=True)
