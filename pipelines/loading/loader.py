"""`ShardLoader`: batches of tensors from a table of shards, in an exact order, made by threads."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from headrace.errors import DataError, RecipeError
from headrace.images.pixels import Mode
from headrace.loading import arguments
from headrace.loading.feed.block import Batch, Collator, Policy
from headrace.loading.feed.feed import Cuts, Feed, to_device
from headrace.loading.feed.shard_cache import ShardCache
from headrace.loading.feed.stats import BadSample, Stats
from headrace.loading.order.order import Order, RankOrder
from headrace.loading.shard.budget import Budget
from headrace.loading.shard.footprint import Footprint, largest
from headrace.loading.shard.geometry import BATCHES, Buckets, Crop, Geometry
from headrace.loading.shard.memory import Memory
from headrace.loading.shard.read import Selection, images_in_shard, read_shard, with_file_types
from headrace.loading.shard.rows import Captions
from headrace.loading.table.cache import Cache
from headrace.loading.table.plan import plan

DEFAULT_LANES = 64
_ROWS_OF_LANE = 16
"""samples of one lane that are gathered together: enough to spread the cost of visiting its shard"""
_ROWS_OF_LANE_UNDECODED = 128
_BLOCK_BYTES = 24 << 20
"""about how many bytes a block may take, without decoded images"""
_BLOCKS = 16
"""the part of the memory that a block may take at most"""


class ShardLoader(IterableDataset[Batch]):
    """Reads the samples of a dataset in batches. See docs/loading.md.

    A batch is a dict. It holds uint8 tensors N×C×H×W for decoded columns (and `<column>_mask`, bool N, False where
    null, for all but the first of them), int64 tensors for integers, lists of str | None for strings, and `_position`,
    int64 N: each sample's place in the run, counted over all ranks from epoch 0.

    An iteration continues from the current position to the end of the pass, which is `epochs` epochs long. The next
    iteration is the next pass. Within a pass, batches run across epochs. With `drop_last`, samples that do not fill the
    last global batch of the pass are dropped; without it, that batch is shorter and may be empty on some ranks.

    The loader is an IterableDataset of whole batches. Where a framework expects a data loader, pass
    `DataLoader(loader, batch_size=None)` or torchdata's `StatefulDataLoader(loader, batch_size=None)`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        batch_size: int,
        decode: Mapping[str, Mode] = arguments.DEFAULT_DECODE,
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
        buckets: Sequence[tuple[int, int]] | None = None,
        sample_hook: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
        hook: Callable[[Batch], Batch] | None = None,
        captions: Captions = "all",
        image_key: str | None = None,
        weight: str | None = None,
        drop: Mapping[str, float] | None = None,
        on_bad_sample: Policy = "fail",
        lanes: int | None = None,
        window: int = 1,
        memory: int = 2 << 30,
        prefetch: int = 2,
        timeout: float = 300.0,
        device: torch.device | str | None = None,
        storage_options: dict[str, str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        cache_bytes: int = 64 << 30,
    ) -> None:
        """Plan the dataset. One footer is read; `one_per_image` and `weighted` must count the images of every shard.

        Args:
            path: a Delta table or a folder of Parquet files, as a local path or a URI.
            batch_size: the number of samples in one batch of one rank, at least 1.
            decode: how to decode columns of encoded images, by column: `rgb` (3 channels) or `gray` (1). Columns of the
                default that the dataset lacks are ignored.
            columns: the columns to load; None loads all.
            shuffle: False keeps the order of the table, and uses one lane.
            seed: fixes the order and all random draws.
            rank, world_size: which part of each global batch this loader yields; 0 ≤ rank < world_size.
            threads: the number of decoding threads; None means one for each CPU that the process may use, at most 16.
            version: the version of the Delta table; None means the latest.
            where: partition columns and their values; only files with these values are read.
            epochs: the number of epochs in one pass; None never ends.
            drop_last: whether samples that do not fill the last global batch of a pass are dropped.
            size: the side, or (height, width), of decoded images in pixels, scaled by area; None keeps the stored size,
                which must then be the same in a whole batch.
            crop: `none` scales an image to `size` whatever its shape; `centre` and `random` scale it to cover `size`
                and cut off the rest.
            flip: the share (0 to 1) of samples that are mirrored left to right. Conditions are cropped and mirrored
                like their image.
            buckets: sizes (height, width) to use instead of `size`. Each batch holds images of similar shape, at the
                size of its bucket; the samples of 16 consecutive batches of a rank are regrouped to make this possible.
            sample_hook: called with each sample (a dict of its values in the batch) in a worker thread; the dicts it
                returns are collated.
            hook: called with each batch in a worker thread; the loader yields what it returns.
            captions: `all` makes every row a sample. `one_per_image` and `weighted` make every image one sample in each
                epoch, whose row is the next in turn or drawn by weight.
            image_key: the column that identifies images; None means the first decoded one.
            weight: the column of weights (finite, 0 or more) for `weighted`.
            drop: for a column, the share (0 to 1) of samples that lose its value, for classifier-free guidance. Strings
                become None, decoded columns black; `<column>_dropped`, bool N, marks these samples. The draws depend
                on (seed, epoch, sample).
            on_bad_sample: what to do with an image that is null or cannot be decoded. `fail` ends the run, `skip`
                leaves the sample out of its batch (and skips unreadable files), `replace` takes the next good row of
                its shard.
            lanes: a global batch draws from `lanes` × `window` shards at once. None means 64, or the number of shards
                if that is smaller, or fewer if the open shards would take more than a third of `memory`; it means 1
                without shuffling.
            window: how many consecutive shards of a lane are mixed.
            memory: the most bytes that read-ahead and kept images may take.
            prefetch: how many batches are made ahead of the one in use.
            timeout: how many seconds to wait for a batch before a TimeoutError that shows what each thread is doing.
            device: the device of the tensors; None means the CPU. Copies to a GPU run ahead on their own stream.
            storage_options: credentials and other options for deltalake, S3 and fsspec.
            cache: a local folder for copies of remote shards; several processes may share it.
            cache_bytes: the most bytes of copies to keep there.

        Raises:
            RecipeError: an argument is wrong.
            DataError: the dataset is missing or unreadable.
        """
        arguments.check(locals())
        drop = dict(drop or {})
        if type(rank) is not int or not 0 <= rank < world_size:
            raise RecipeError(f"rank: found {rank!r}, expected 0 to {world_size - 1}")
        arguments.check_choices(captions, on_bad_sample, crop)
        arguments.check_shares(flip, drop)
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size
        self.seed, self.shuffle, self.epochs, self.drop_last, self.window = seed, shuffle, epochs, drop_last, window
        self.captions, self.memory, self.where, self.drop = captions, memory, dict(where or {}), drop
        self.device = arguments.checked_device(device)
        self.threads = threads or min(16, len(os.sched_getaffinity(0)))
        self.stats = Stats()
        self._prefetch, self._timeout = prefetch, timeout
        local = None if cache is None else partial(Cache, cache, cache_bytes)
        self._plan = plan(os.fspath(path), version, storage_options, local, where)
        self.version = self._plan.place.version
        decoded, fields = arguments.select(self._plan, decode, columns, drop)
        footer, size_of_file = largest(self._plan)
        self._plan = with_file_types(self._plan, [field.column for field in fields.values()], footer)
        decoded, fields = arguments.select(self._plan, decode, columns, drop)
        arguments.check_geometry(size, crop, buckets, decoded)
        if buckets is not None and crop == "none":
            crop = "centre"
        image_key, weight = arguments.grouping(self._plan, captions, image_key or next(iter(decoded), None), weight)
        names = arguments.SAMPLE_ID if arguments.SAMPLE_ID in self._plan.schema.names and decoded else None
        self._selection = Selection(fields, tuple(decoded), image_key, weight, seed, names)
        self._footprint = Footprint(footer, size_of_file, self._plan, self._selection)
        self._collator = Collator(
            decoded,
            fields,
            Geometry((size, size) if isinstance(size, int) else size, crop, flip),
            on_bad_sample,
            self.stats,
            Memory(prefetch + 1),
            drop,
            Buckets(buckets) if buckets is not None else None,
            sample_hook,
            hook,
        )
        self._counts = self._count()
        self.lanes = lanes or self._default_lanes()
        self._epoch = 0
        self._position = 0
        self._pass_ended = False

    def _count(self) -> np.ndarray:
        if self._selection.image_key is None:
            return self._plan.rows
        count = partial(images_in_shard, self._plan, image_key=self._selection.image_key)
        with ThreadPoolExecutor(self.threads) as pool:
            return np.array(list(pool.map(count, range(len(self._plan)))))

    def _default_lanes(self) -> int:
        if not self.shuffle:
            return 1
        lanes = min(DEFAULT_LANES, len(self._plan))
        each = max(1.0, self.window * int(self._plan.sizes.max()) * self._footprint.growth(in_place=True))
        # one third each for the shards in use, those read ahead, and those whose batches are not finished yet
        return max(1, min(lanes, int(self.memory / 3 / each)))

    @property
    def epoch_samples(self) -> int:
        """The number of samples in one epoch, over all ranks."""
        return int(self._counts.sum())

    def __len__(self) -> int:
        """The number of batches from here to the end of the pass. Raises TypeError if `epochs` is None."""
        batches = self._batches(0 if self._pass_ended else self._position)
        if batches is None:
            raise TypeError("a loader with epochs=None has no length")
        return batches

    def _batches(self, position: int) -> int | None:
        if self.epochs is None:
            return None
        left = self.epochs * self.epoch_samples - position
        each = self.batch_size * self.world_size
        left = max(0, left)
        return left // each if self.drop_last else -(-left // each)

    def samples_left(self) -> int | None:
        """The number of this rank's samples from here to the end of the pass; None if `epochs` is None."""
        if self.epochs is None:
            return None
        return max(0, self.epochs * self.epoch_samples - self._position) // self.world_size

    def set_epoch(self, epoch: int) -> None:
        """Go to the beginning of epoch `epoch`, counted from 0."""
        self._epoch, self._position, self._pass_ended = epoch, 0, False

    def state_dict(self) -> dict[str, Any]:
        """The position after the last yielded batch, and what fixes the order: a small dict, ready for JSON."""
        return {"epoch": self._epoch, "position": self._position, **self._order_settings()}

    def _order_settings(self) -> dict[str, Any]:
        return {
            "version": self._plan.place.version,
            "where": self.where,
            "seed": self.seed,
            "shuffle": self.shuffle,
            "captions": self.captions,
            "image_key": self._selection.image_key,
            "weight": self._selection.weight,
            "drop": self.drop,
            **self._bucket_settings(),
            "lanes": self.lanes,
            "window": self.window,
            "samples": self.epoch_samples,
            "digest": self._plan.digest(),
        }

    def _bucket_settings(self) -> dict[str, Any]:
        """Settings that fix the order only with buckets, which regroup batches."""
        if self._collator.buckets is None:
            return {}
        sizes = [list(size) for size in self._collator.buckets.sizes]
        return {"buckets": sizes, "batch_size": self.batch_size, "world_size": self.world_size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the position in `state`, which `state_dict()` returned.

        Batch size and world size may differ (except with buckets); what fixes the order may not. Raises RecipeError
        that names each setting that differs, or the key of `state` that is invalid.
        """
        epoch, position = arguments.check_state(state)
        differing = [
            f"{name} (found {ours!r}, expected {state.get(name)!r})"
            for name, ours in self._order_settings().items()
            if state.get(name) != ours
        ]
        if differing:
            raise RecipeError(f"the loader's state was saved with other settings: {', '.join(differing)}")
        self._epoch, self._position, self._pass_ended = epoch, position, False

    def __iter__(self) -> Iterator[Batch]:
        self._start_next_pass_if_ended()
        return self._iterate(self._cuts(self._batches(self._position)))

    def _start_next_pass_if_ended(self) -> None:
        """Go to the next pass if the last one yielded all of its batches, even if its iterator never ran out."""
        if self._pass_ended and self.epochs is not None:
            self.set_epoch(self._epoch + self.epochs)

    def batches_cut(self, begin: Callable[[int], int], batches: int | None, largest: int) -> Iterator[Batch]:
        """Yield `batches` batches (None: without end) of different sizes, none larger than `largest` samples.

        Batch n begins at this rank's sample `begin(n)`, counted from the current position.
        """
        self._start_next_pass_if_ended()
        return self._iterate(Cuts(batches, begin, largest, self._block_batches(largest)))

    def _iterate(self, cuts: Cuts) -> Iterator[Batch]:
        if get_worker_info() is not None:
            raise RecipeError("num_workers: found worker processes, expected 0: a ShardLoader has threads of its own")
        if cuts.batches != 0:
            origin = self._position - cuts.begin(cuts.first) * self.world_size
            feed = self._feed(cuts, origin)
            made = self._made(feed, cuts)
            try:
                number = cuts.first
                requested = time.perf_counter()
                for batch in to_device(made, self.device) if self.device is not None else made:
                    number += 1
                    self._position = origin + cuts.begin(number) * self.world_size
                    self._pass_ended = self._batches(self._position) == 0
                    yielded = time.perf_counter()
                    self.stats.add(wait_seconds=yielded - requested)
                    yield batch
                    del batch
                    requested = time.perf_counter()
                    self.stats.add(busy_seconds=requested - yielded)
            finally:
                feed.close()
        if self.epochs is not None and self._batches(self._position) == 0:
            self.set_epoch(self._epoch + self.epochs)

    @staticmethod
    def _made(feed: Feed, cuts: Cuts) -> Iterator[Batch]:
        number = cuts.first
        while cuts.batches is None or number < cuts.batches:
            yield feed.next()
            number += 1

    def _cuts(self, batches: int | None) -> Cuts:
        size = self.batch_size
        block = self._block_batches(size)
        if self._collator.buckets is None:
            return Cuts(batches, lambda number: number * size, size, block)
        first = self._position // (size * self.world_size) % BATCHES
        left = batches if batches is None else batches and batches + first
        return Cuts(left, lambda number: number * size, size, BATCHES, first)

    def _block_batches(self, size: int) -> int:
        """The number of batches that are gathered together."""
        rows = self.lanes * (_ROWS_OF_LANE if self._collator.decode else _ROWS_OF_LANE_UNDECODED)
        room = min(_BLOCK_BYTES, self.memory // _BLOCKS)
        return max(1, min(rows, int(room / max(1.0, self._footprint.row()))) // size)

    def _feed(self, cuts: Cuts, origin: int) -> Feed:
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
        growth = self._footprint.growth(in_place=False)
        keep = self.epochs != 1 and int(self._plan.sizes.sum()) * growth <= self.memory // 4
        shard_cache = ShardCache(
            lambda shard: read_shard(self._plan, shard, self._selection, budget, keep),
            lambda shard: int(self._plan.sizes[shard]),
            budget,
            self.stats,
            growth=growth if keep else self._footprint.growth(in_place=True),
            readers=min(2, self.threads),
            keep=keep,
        )
        return Feed(
            RankOrder(order, origin=origin, rank=self.rank, world_size=self.world_size),
            self._collator,
            shard_cache,
            budget,
            self.stats,
            cuts,
            base=self._epoch * self.epoch_samples,
            threads=self.threads,
            depth=self._prefetch,
            timeout=self._timeout,
            on_unreadable=self._skip_shard if self._collator.on_bad_sample == "skip" else None,
        )

    def _skip_shard(self, error: DataError, samples: int) -> None:
        path, _, reason = str(error).partition(": ")
        for _ in range(samples):
            self.stats.add_bad(BadSample(path, -1, "", reason))
