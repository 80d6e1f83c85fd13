"""The tables that the loader benchmark reads and that the peers' formats are written from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROWS_OF_SHARD = {"coded": 250, "raw": 2500}
QUALITIES = (60, 92)  # JPEGs of 17 and 36 kB
SIGMA = 4.7  # edge maps of about 3 kB


def coded_shard(start: int, rows: int) -> pa.Table:
    """`rows` pairs of a JPEG of 256² (17 or 36 kB) and a PNG (3 kB): smoothed noise, and its edges."""
    images, edges = [], []
    for number in range(start, start + rows):
        noise = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        pixels = cv2.resize(noise, (256, 256), interpolation=cv2.INTER_CUBIC)
        quality = QUALITIES[number % len(QUALITIES)]
        images.append(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
        outline = cv2.Canny(cv2.GaussianBlur(pixels, (0, 0), SIGMA), 40, 80)
        edges.append(cv2.imencode(".png", outline)[1].tobytes())
    numbers = np.arange(start, start + rows)
    captions = [f"a picture with the number {number}" for number in numbers]
    return pa.table({"sample_id": numbers, "caption": captions, "image": images, "condition": edges})


def raw_shard(start: int, rows: int) -> pa.Table:
    """`rows` samples of 3,072 bytes, a label and a caption."""
    pixels = np.random.default_rng(start).integers(0, 256, (rows, 3072), np.uint8)
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(3072), rows, [None, pa.py_buffer(pixels.tobytes())])
    captions = [f"a picture with the number {number}" for number in range(start, start + rows)]
    return pa.table({"pixels": column, "label": np.arange(start, start + rows) % 10, "caption": captions})


def six_captions(table: pa.Table) -> pa.Table:
    """The shard with six captions for each image, stored once."""
    rows = pa.array(np.repeat(np.arange(len(table)), 6), pa.int32())
    columns = {name: table.column(name).combine_chunks().take(rows) for name in ("sample_id", "caption")}
    for name in ("image", "condition"):
        columns[name] = pa.DictionaryArray.from_arrays(rows, table.column(name).combine_chunks())
    return pa.table(columns).cast(pa.schema([(name, table.schema.field(name).type) for name in columns]))


def write_table(folder: Path, shards: Iterator[pa.Table], dictionary: list[str]) -> None:
    """Write a Delta table with one file for each shard."""
    from deltalake import Schema
    from deltalake.transaction import AddAction, create_table_with_add_actions

    folder.mkdir(parents=True)
    actions = []
    schema = None
    for number, shard in enumerate(shards):
        name = f"shard-{number:05d}.parquet"
        pq.write_table(
            shard, folder / name, use_dictionary=dictionary, dictionary_pagesize_limit=1 << 30, compression="none"
        )
        stats = json.dumps({"numRecords": len(shard)})
        actions.append(AddAction(name, (folder / name).stat().st_size, {}, 0, True, stats))
        schema = shard.schema
    assert schema is not None
    create_table_with_add_actions(
        table_uri=str(folder), schema=Schema.from_arrow(schema), add_actions=actions, mode="error", partition_by=[]
    )


def write_data(folder: Path, pairs: int, raw: int) -> None:
    """Write every table that headrace reads, except those that already exist."""
    for kind, total, make in (("coded", pairs, coded_shard), ("raw", raw, raw_shard)):
        if not (folder / kind / "_delta_log").exists():
            rows = ROWS_OF_SHARD[kind]
            starts = range(0, total, rows)
            write_table(folder / kind, (make(start, min(rows, total - start)) for start in starts), [])
    if not (folder / "six" / "_delta_log").exists():
        few = (coded_shard(start, 250) for start in range(0, max(250, pairs // 6), 250))
        write_table(folder / "six", map(six_captions, few), ["image", "condition"])


def write_log(folder: Path, shards: int, rows: int) -> None:
    """Write the log of a table of `shards` files and about shards × rows samples. The files themselves do not exist."""
    from deltalake import Schema

    log = folder / "_delta_log"
    log.mkdir(parents=True)
    columns = pa.schema([("sample_id", pa.int64()), ("caption", pa.string()), ("image", pa.binary())])
    numbers = np.arange(shards)
    counts = rows - rows // 10 + numbers * 2_654_435_761 % (rows // 5 + 1)
    add = pa.StructArray.from_arrays(
        [
            pa.array([f"shard-{n:07d}-{n * 2_654_435_761 % (1 << 48):012x}-0.parquet" for n in range(shards)]),
            pa.array(60_000_000 + numbers % 1000),
            pa.array([json.dumps({"numRecords": int(count), "nullCount": {"caption": 0}}) for count in counts]),
            pa.MapArray.from_arrays(
                np.zeros(shards + 1, np.int32), pa.array([], pa.string()), pa.array([], pa.string())
            ),
        ],
        ["path", "size", "stats", "partitionValues"],
    )
    metadata = {"id": "made-up", "schemaString": Schema.from_arrow(columns).to_json(), "partitionColumns": []}
    table = pa.table(
        {
            "protocol": pa.array([{"minReaderVersion": 1, "minWriterVersion": 2}, *[None] * shards]),
            "metaData": pa.array([metadata, *[None] * shards]),
            "add": pa.concat_arrays([pa.nulls(1, add.type), add]),
        }
    )
    pq.write_table(table, log / f"{0:020d}.checkpoint.parquet")
    (log / "_last_checkpoint").write_text(json.dumps({"version": 0, "size": len(table)}))
