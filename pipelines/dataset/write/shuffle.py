"""The shuffle: one frame with two kinds of rows, media and samples, each with the shard it belongs to.

Both kinds are shuffled together, so the bytes of an image cross the network once and no join has to sort them. The
write stage separates them again.

| column | media | samples |
| --- | --- | --- |
| `__shard` | the shard of the row | the same |
| `__order` | the row's place in the seeded order | the same |
| `__row` | hash of the key | that of the first media column that is not null |
| `__hash` | null | hash of the sample, see `sample_hash` |
| `__key` | the key as text | the same if the query selects it, else null |
| `m0`, `m1`, … | the bytes of a leaf | null |
| `s0`, `s1`, … | null | the query's columns |
| `__why0`, `__why1`, … | null | why the column of that number is null |
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.dataset.query.media import Leaf, bytes_column, quoted
from headrace.dataset.query.placement import Placement, Rows
from headrace.dataset.query.samples import PARTITION, Samples
from headrace.dataset.write.sample_hash import sample_hash


def shuffled(
    source: DataFrame,
    samples: Samples,
    leaves: Sequence[Leaf],
    rows: Rows,
    placement: Placement,
    named: DataFrame | None = None,
    identity: Sequence[str] = (),
) -> DataFrame:
    """The media of `leaves` and the `samples`, with one Spark partition for each shard of `placement`.

    `named` has the `row`s whose media are shipped, few enough to broadcast (None: all). `identity` are the columns that
    a sample's id is made from (empty: all).
    """
    placed = _placed_samples(samples, rows, placement, identity)
    if samples.handles:
        media = _media(source, leaves, rows)
        if named is not None:
            media = media.join(F.broadcast(named.select("row")), F.col("__row") == F.col("row"), "left_semi")
        placed = placed.unionByName(_placed_media(media, placement), allowMissingColumns=True)
        if samples.mixed and len(samples.handles) > 1:
            placed = placed.unionByName(_guests(media, samples, placement), allowMissingColumns=True)
    return placed.repartition(placement.total, _key_of(F.col("__shard"), placement.total))


def _key_of(shard: Column, shards: int) -> Column:
    """The integer that Spark's hash partitioning, `pmod(hash(key), shards)`, sends to the partition `shard`.

    `repartitionById`, which takes the number itself, came with Spark 4.1.
    """
    keys = F.split(F.lit(",".join(str(_unhashed(number)) for number in range(shards))), ",").cast("array<int>")
    return F.element_at(keys, shard + 1)


def _unhashed(hashed: int) -> int:
    """The 32-bit integer whose `hash` in Spark is `hashed`: MurmurHash3_x86_32 of four bytes, seed 42, backwards."""
    hashed ^= hashed >> 16
    hashed = _divided(hashed, 0xC2B2AE35)
    hashed ^= hashed >> 13 ^ hashed >> 26
    hashed = _divided(hashed, 0x85EBCA6B)
    hashed ^= hashed >> 16
    hashed ^= 4  # the number of bytes
    block = _rotated(_divided(hashed - 0xE6546B64, 5), 13) ^ 42
    key = _divided(_rotated(_divided(block, 0x1B873593), 15), 0xCC9E2D51)
    return key - (1 << 32) if key >> 31 else key


def _divided(product: int, factor: int) -> int:
    """The number that times the odd `factor` gives `product`, modulo 2³²."""
    return product * pow(factor, -1, 1 << 32) % (1 << 32)


def _rotated(bits: int, right: int) -> int:
    """32 bits rotated to the right."""
    return (bits >> right | bits << (32 - right)) % (1 << 32)


def _media(source: DataFrame, leaves: Sequence[Leaf], rows: Rows) -> DataFrame:
    return source.select(
        rows.order.alias("__order"),
        rows.row.alias("__row"),
        F.lit(None).cast("long").alias("__hash"),
        F.col(quoted(rows.key)).cast("string").alias("__key"),
        *(bytes_column(leaf, source.schema).alias(f"m{leaf.slot}") for leaf in leaves),
    )


def _placed_media(media: DataFrame, placement: Placement) -> DataFrame:
    shards = placement.shard(F.col("__order"), F.col("__row"), None)
    return media.select((F.explode(shards) if placement.hot_rows else shards[0]).alias("__shard"), *media.columns)


def _guests(media: DataFrame, samples: Samples, placement: Placement) -> DataFrame:
    """Media that samples of another row use, placed with that row. They cross the network once for each such row."""
    handles = [F.col(quoted(name)) for name in samples.handles]
    host = F.coalesce(*handles)
    guests = F.array(*(handle.getField("__row") for handle in handles))
    needs = (
        samples.frame.select(host.alias("host"), F.explode(guests).alias("guest"))
        .where("guest <> host.__row")
        .select(F.explode(placement.shard(F.col("host.__order"), F.col("host.__row"), None)).alias("__shard"), "guest")
        .distinct()
    )
    joined = media.join(needs.hint("shuffle_hash"), F.col("__row") == F.col("guest"))
    return joined.select("__shard", *media.columns)


def _placed_samples(samples: Samples, rows: Rows, placement: Placement, identity: Sequence[str]) -> DataFrame:
    frame = samples.frame
    fields = [f for f in samples.schema.fields if not identity or f.name in identity]
    hashed = sample_hash([(F.col(quoted(f.name)), f.dataType) for f in fields])
    row, order = _row_and_order(samples, rows, hashed)
    name = (F.lit(None) if samples.key is None else F.col(quoted(samples.key))).cast("string")
    return frame.select(
        placement.shard(order, row, hashed).alias("__shard"),
        order.alias("__order"),
        row.alias("__row"),
        hashed.alias("__hash"),
        name.alias("__key"),
        *(F.col(quoted(column)).alias(f"s{i}") for i, column in enumerate(samples.columns)),
        *(why for why in samples.causes if why is not None),
    )


def _row_and_order(samples: Samples, rows: Rows, hashed: Column) -> tuple[Column, Column]:
    """The row that a sample belongs to, and its place in the order: those of its first media, or else its own."""
    partition = F.col(PARTITION) if PARTITION in samples.frame.columns else None
    if samples.handles:
        first = F.coalesce(*(F.col(quoted(name)) for name in samples.handles))
        order = F.coalesce(first.getField("__order"), rows.ordered(hashed, partition, by_media=True))
        return F.coalesce(first.getField("__row"), hashed), order
    row = hashed
    if samples.binary:  # equal bytes go to one shard, where they are stored once
        first = F.coalesce(*(F.col(quoted(name)) for name in samples.binary))
        row = F.coalesce(F.when(first.isNotNull(), F.xxhash64(first)), hashed)
    return row, rows.ordered(row, partition)
