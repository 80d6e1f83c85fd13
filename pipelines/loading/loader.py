"""`ShardLoader`: batches of tensors from a table of shards, in an exact order, by threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, get_args

import numpy as np
from torch.utils.data import IterableDataset, get_worker_info

from pipelines.errors import DataError, RecipeError
from pipelines.loading.budget import Budget
from pipelines.loading.cache import Cache
from pipelines.loading.collate import Batch, Collator, Policy
from pipelines.loading.columns import Field, fields_of
from pipelines.loading.decode import CHANNELS, Mode
from pipelines.loading.feed import Feed
from pipelines.loading.geometry import Crop, Geometry
from pipelines.loading.memory import Memory
from pipelines.loading.order import Order, RankOrder
from pipelines.loading.plan import plan
from pipelines.loading.read import Wanted, images_in_shard, read_shard
from pipelines.loading.samples import Captions
from pipelines.loading.shelf import Shelf
from pipelines.loading.stats import BadSample, Stats

DEFAULT_DECODE: Mapping[str, Mode] = {"image": "rgb", "condition": "gray"}
DEFAULT_LANES = 8


class ShardLoader(IterableDataset[Batch]):
    """Reads the samples of a dataset in batches. See docs/loading.md.

    A batch is a dict: uint8 tensors N×C×H×W for decoded columns (and `<column>_mask`, bool N, for all but the first of
    them: False where null), int64 tensors for integers, lists of str | None for strings, and `_position`, int64 N: each
    sample's place in the run, counted over all ranks from epoch 0.

    Iterating goes on from where `state_dict()` says, to the end of the pass of `epochs` epochs; the next iteration is
    the next pass. Batches run across epochs within a pass. With `drop_last` the samples that do not fill the last
    global batch of the pass are dropped; without, that batch is shorter, and may be empty on some ranks.

    It is an IterableDataset of whole batches: where a framework wants a data loader, give it
    `DataLoader(loader, batch_size=None)` or torchdata's `StatefulDataLoader(loader, batch_size=None)`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        batch_size: int,
        decode: Mapping[str, Mode] = DEFAULT_DECODE,
        columns: Sequence[str] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        threads: int | None = None,
        version: int | None = None,
        where: Mapping[str, Any] | None = None,
        epochs: int | None = 1,
        drop_last: bool = True,
        size: int | tuple[int, int] | None = None,
        crop: Crop = "none",
        flip: float = 0.0,
        hook: Callable[[Batch], Batch] | None = None,
        captions: Captions = "all",
        image_key: str | None = None,
        weight: str | None = None,
        on_bad_sample: Policy = "fail",
        lanes: int | None = None,
        window: int = 1,
        memory: int = 2 << 30,
        prefetch: int = 4,
        timeout: float = 300.0,
        storage_options: dict[str, str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int = 64 << 30,
    ) -> None:
        """Plan the dataset; no shard is read yet (but for `one_per_image` and `weighted`, which must count images).

        Args:
            path: a Delta table or a folder of Parquet files; a folder or a URI.
            batch_size: samples of one batch of one rank.
            decode: how to decode columns of encoded images: `rgb` or `gray`. Of the default, columns that the dataset
                lacks are left out.
            columns: which columns to load; None: all.
            shuffle: False: the order of the table (and one lane).
            seed: fixes the order.
            rank, world_size: which part of each global batch this loader yields.
            threads: decoding threads; None: one for each CPU that the process may use, at most 16.
            version: of the Delta table; None: the latest.
            where: values of partition columns; only files that have them are read.
            epochs: of one pass; None: for ever.
            drop_last: whether a pass ends with a full batch.
            size: side, or (height, width), in pixels of decoded images, scaled by area; None: as stored, all the same.
            crop: `none`: scaled to `size`, whatever its shape; `centre`, `random`: scaled to cover `size`, then cut.
            flip: share of samples mirrored left to right. Conditions are cut and mirrored as their image is.
            hook: called with each batch in a worker thread; what it returns is yielded.
            captions: `all` rows; or one row an image and epoch: `one_per_image`, in turn, or `weighted`, drawn.
            image_key: the column that tells images apart; None: the first decoded one.
            weight: the column of weights, for `weighted`.
            on_bad_sample: an image that is null or cannot be decoded ends the run, is left out of its batch, or is
                replaced by the next good row of its shard. `skip` leaves out unreadable files too.
            lanes: a global batch draws from `lanes` × `window` shards at once. None: 8, fewer if their shards would
                take more than half of `memory`, 1 without shuffle.
            window: shards of a lane that are mixed.
            memory: bytes to hold at most; read-ahead and reuse of decoded images keep within it.
            prefetch: batches made ahead.
            timeout: seconds without a batch after which TimeoutError shows what each thread does.
            storage_options: credentials and the like, for deltalake, S3 and fsspec.
            cache: a local folder for copies of remote shards, which several processes may share.
            cache_bytes: how many bytes of copies are kept there.

        Raises:
            RecipeError: an argument is wrong.
            DataError: the dataset is missing or unreadable.
        """
        self._check(batch_size, rank, world_size, epochs, captions, on_bad_sample, lanes, window, size, crop, flip)
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.seed, self.shuffle, self.epochs, self.drop_last, self.window = seed, shuffle, epochs, drop_last, window
        self.captions, self.memory = captions, memory
        self.threads = threads or min(16, len(os.sched_getaffinity(0)))
        self.stats = Stats()
        self._prefetch, self._timeout = prefetch, timeout
        self._plan = plan(
            os.fspath(path),
            version,
            storage_options,
            None if cache is None else partial(Cache, cache, cache_bytes),
            where,
        )
        self.where = dict(where or {})
        self.version = self._plan.place.version
        decoded, fields = self._select(decode, columns)
        image_key = image_key or next(iter(decoded), None)
        self._wanted = Wanted(fields, tuple(decoded), *self._grouping(captions, image_key, weight), seed)
        geometry = Geometry((size, size) if isinstance(size, int) else size, crop, flip)
        self._collator = Collator(decoded, fields, geometry, on_bad_sample, self.stats, Memory(prefetch + 2), hook)
        self._counts = self._count()
        self.lanes = lanes or self._default_lanes()
        self._epoch = 0
        self._position = 0

    @staticmethod
    def _check(
        batch_size: int,
        rank: int,
        world_size: int,
        epochs: int | None,
        captions: str,
        on_bad_sample: str,
        lanes: int | None,
        window: int,
        size: int | tuple[int, int] | None,
        crop: str,
        flip: float,
    ) -> None:
        numbers = {
            "batch_size": batch_size,
            "world_size": world_size,
            "epochs": epochs,
            "lanes": lanes,
            "window": window,
        }
        for name, number in numbers.items():
            if number is not None and number < 1:
                raise RecipeError(f"{name}: found {number}, expected at least 1")
        if not 0 <= rank < world_size:
            raise RecipeError(f"rank: found {rank}, expected 0 to {world_size - 1}")
        if crop != "none" and size is None:
            raise RecipeError(f"size: found None, expected the size to crop to for crop={crop!r}")
        if not 0 <= flip <= 1:
            raise RecipeError(f"flip: found {flip}, expected a share, 0 to 1")
        choices = (("captions", captions, Captions), ("on_bad_sample", on_bad_sample, Policy), ("crop", crop, Crop))
        for name, value, allowed in choices:
            if value not in get_args(allowed):
                raise RecipeError(f"{name}: found {value!r}, expected one of {', '.join(get_args(allowed))}")

    def _grouping(self, captions: str, image_key: str | None, weight: str | None) -> tuple[str | None, str | None]:
        """The columns that tell images apart and weigh their rows, where each image is one sample."""
        if captions == "all":
            return None, None
        columns = {"image_key": image_key, **({"weight": weight} if captions == "weighted" else {})}
        for name, column in columns.items():
            if column not in self._plan.schema.names:
                raise RecipeError(
                    f"{name}: found {column!r}, expected a column of {self._plan.place.root} for captions={captions!r}"
                )
        return image_key, columns.get("weight")

    def _select(
        self, decode: Mapping[str, Mode], columns: Sequence[str] | None
    ) -> tuple[dict[str, Mode], dict[str, Field]]:
        schema = self._plan.schema
        chosen = list(schema.names) if columns is None else list(columns)
        if decode is DEFAULT_DECODE:
            decode = {name: mode for name, mode in decode.items() if name in chosen}
        for name in [*chosen, *decode]:
            if name not in schema.names:
                raise RecipeError(
                    f"column {name}: found none in {self._plan.place.root}, expected one of {schema.names}"
                )
        for name, mode in decode.items():
            if mode not in CHANNELS:
                raise RecipeError(f"decode[{name!r}]: found {mode!r}, expected one of {', '.join(CHANNELS)}")
        fields: dict[str, Field] = {}
        for name in chosen:
            if name not in decode:
                fields |= fields_of(schema.field(name), name in self._plan.nullable)
        return dict(decode), fields

    def _count(self) -> np.ndarray:
        if self._wanted.image_key is None:
            return self._plan.rows
        count = partial(images_in_shard, self._plan, image_key=self._wanted.image_key)
        with ThreadPoolExecutor(self.threads) as pool:
            return np.array(list(pool.map(count, range(len(self._plan)))))

    def _default_lanes(self) -> int:
        if not self.shuffle:
            return 1
        lanes = DEFAULT_LANES
        while lanes > 1 and lanes * self.window * int(self._plan.sizes.max()) > self.memory // 2:
            lanes //= 2
        return lanes

    @property
    def epoch_samples(self) -> int:
        """Samples of one epoch, over all ranks."""
        return int(self._counts.sum())

    def __len__(self) -> int:
        """Batches from the present position to the end of the pass. Raises TypeError where `epochs` is None."""
        batches = self._batches()
        if batches is None:
            raise TypeError("a loader with epochs=None has no length")
        return batches

    def _batches(self) -> int | None:
        if self.epochs is None:
            return None
        left = self.epochs * self.epoch_samples - self._position
        each = self.batch_size * self.world_size
        left = max(0, left)
        return left // each if self.drop_last else -(-left // each)

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of `epoch`."""
        self._epoch, self._position = epoch, 0

    def state_dict(self) -> dict[str, Any]:
        """Where the loader is, after the last batch that it gave out, and what fixes the order; small, JSON-ready."""
        return {"epoch": self._epoch, "position": self._position, **self._order_settings()}

    def _order_settings(self) -> dict[str, Any]:
        return {
            "version": self._plan.place.version,
            "where": self.where,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "captions": self.captions,
            "image_key": self._wanted.image_key,
            "weight": self._wanted.weight,
            "lanes": self.lanes,
            "window": self.window,
            "samples": self.epoch_samples,
            "digest": self._plan.digest(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to where `state` was taken; batch size and world size may differ, what fixes the order may not.

        Raises RecipeError naming each setting that differs.
        """
        differing = [
            f"{name} (found {ours!r}, expected {state.get(name)!r})"
            for name, ours in self._order_settings().items()
            if state.get(name) != ours
        ]
        if differing:
            raise RecipeError(f"the loader's state was taken under other settings: {', '.join(differing)}")
        self._epoch, self._position = int(state["epoch"]), int(state["position"])

    def __iter__(self) -> Iterator[Batch]:
        if get_worker_info() is not None:
            raise RecipeError("num_workers: found worker processes, expected 0: a ShardLoader has threads of its own")
        batches = self._batches()
        each = self.batch_size * self.world_size
        if batches != 0:
            feed = self._feed(batches)
            try:
                number = 0
                asked = time.perf_counter()
                while batches is None or number < batches:
                    batch = feed.next()
                    number += 1
                    self._position += each
                    given = time.perf_counter()
                    self.stats.add(wait_seconds=given - asked)
                    yield batch
                    del batch
                    asked = time.perf_counter()
                    self.stats.add(busy_seconds=asked - given)
            finally:
                feed.close()
        if self.epochs is not None:
            self._epoch, self._position = self._epoch + self.epochs, 0

    def _feed(self, batches: int | None) -> Feed:
        order = Order(
            self._counts,
            seed=self.seed,
            lanes=self.lanes,
            window=self.window,
            shuffle=self.shuffle,
            first_epoch=self._epoch,
            epochs=self.epochs,
        )
        budget = Budget(self.memory)
        keep = self.epochs != 1 and int(self._plan.sizes.sum()) <= self.memory // 4
        shelf = Shelf(
            lambda shard: read_shard(self._plan, shard, self._wanted, budget, keep),
            lambda shard: int(self._plan.sizes[shard]),
            budget,
            self.stats,
            readers=min(2, self.threads),
            keep=keep,
        )
        return Feed(
            RankOrder(order, origin=self._position, rank=self.rank, world_size=self.world_size),
            self._collator,
            shelf,
            budget,
            self.stats,
            batches=batches,
            batch_size=self.batch_size,
            base=self._epoch * self.epoch_samples,
            threads=self.threads,
            depth=self._prefetch,
            timeout=self._timeout,
            lost=self._lost if self._collator.on_bad_sample == "skip" else None,
        )

    def _lost(self, error: DataError, samples: int) -> None:
        path, _, reason = str(error).partition(": ")
        for _ in range(samples):
            self.stats.add_bad(BadSample(path, -1, "", reason))
