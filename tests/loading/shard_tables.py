"""Small Delta tables of real PNG and JPEG images, dictionary-encoded as a build writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import Schema
from deltalake.transaction import AddAction, create_table_with_add_actions

from headrace.loading import ShardLoader


def png(seed: int, side: int = 16, channels: int = 3) -> bytes:
    """A PNG of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, channels), np.uint8)
    return cv2.imencode(".png", pixels[:, :, 0] if channels == 1 else pixels)[1].tobytes()


def jpeg(seed: int, side: int = 16) -> bytes:
    """A JPEG of smoothed noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return cv2.imencode(".jpg", cv2.blur(pixels, (3, 3)))[1].tobytes()


def write_shard(table: pa.Table, path: Path, media: list[str] | None = None) -> None:
    """Write one file with one row group and dictionary-encoded media columns."""
    media = [name for name in ("image", "condition") if name in table.column_names] if media is None else media
    pq.write_table(
        table, path, use_dictionary=media, dictionary_pagesize_limit=1 << 30, row_group_size=max(1, len(table))
    )


def commit(folder: Path, shards: list[pa.Table]) -> Path:
    """A Delta table whose log gives only the size and the number of rows of each shard."""
    folder.mkdir(parents=True, exist_ok=True)
    actions = []
    for number, table in enumerate(shards):
        name = f"part-{number:05d}.parquet"
        write_shard(table, folder / name)
        stats = json.dumps({"numRecords": len(table)})
        actions.append(
            AddAction(
                path=name,
                size=(folder / name).stat().st_size,
                partition_values={},
                modification_time=0,
                data_change=True,
                stats=stats,
            )
        )
    schema = Schema.from_arrow(shards[0].schema)
    create_table_with_add_actions(
        table_uri=str(folder), schema=schema, add_actions=actions, mode="error", partition_by=[]
    )
    return folder


def numbered(counts: list[int]) -> list[pa.Table]:
    """Shards with only a `sample_id`, numbered throughout."""
    starts = np.cumsum([0, *counts])
    return [
        pa.table({"sample_id": pa.array(np.arange(start, start + count))})
        for start, count in zip(starts, counts, strict=False)
    ]


def captioned(images: int, captions: int, shards: int, side: int = 16) -> list[pa.Table]:
    """Shards of `images` images with `captions` captions each, alternating JPEG and PNG, with edges as condition."""
    tables = []
    for numbers in np.array_split(np.arange(images), shards):
        order = np.repeat(np.arange(len(numbers)), captions)
        encoded = [jpeg(n, side) if n % 2 else png(n, side, 4 if n % 4 == 0 else 3) for n in numbers.tolist()]
        edges = [png(1000 + n, side, 1) for n in numbers.tolist()]
        indices = pa.array(order, pa.int32())
        tables.append(
            pa.table(
                {
                    "sample_id": pa.array(
                        np.repeat(numbers, captions) * captions + np.tile(np.arange(captions), len(numbers))
                    ),
                    "image_id": pa.array([f"image-{n}" for n in np.repeat(numbers, captions)]),
                    "caption": pa.array(
                        [
                            None if c == captions - 1 and n % 5 == 0 else f"caption {c} of {n}"
                            for n in numbers.tolist()
                            for c in range(captions)
                        ],
                        pa.string(),
                    ),
                    "image": pa.DictionaryArray.from_arrays(indices, pa.array(encoded, pa.binary())).cast(pa.binary()),
                    "condition": pa.DictionaryArray.from_arrays(indices, pa.array(edges, pa.binary())).cast(
                        pa.binary()
                    ),
                }
            )
        )
    return tables


def all_of(path: Path, **settings: Any) -> dict[str, list]:
    """The whole table in its order, by batch key."""
    rows: dict[str, list] = {}
    for batch in ShardLoader(path, batch_size=2, shuffle=False, drop_last=False, **settings):
        for name, values in batch.items():
            rows.setdefault(name, []).extend(values if isinstance(values, list) else values.tolist())
    return rows
