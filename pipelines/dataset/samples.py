"""One frame of two kinds of rows, media and samples, each with the shard it belongs to.

Both kinds are shuffled together, so the bytes of an image cross the network once and no join sorts them. The write
stage takes them apart again.

| column | of media | of samples |
| --- | --- | --- |
| `__shard` | where the row goes | the same |
| `__order` | seeded hash of the row: the place in the shard | the same |
| `__row` | hash of the key | that of the first media column that is not null |
| `__hash` | null | hash of the sample without its bytes |
| `__key` | the key as text | the same where the query selects it |
| `m0`, `m1`, … | the bytes of a leaf | null |
| `s0`, `s1`, … | null | the query's columns |
| `__why0`, `__why1`, … | null | why the column of that number is null |
"""

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, MapType, StructType

from pipelines.dataset.media import Leaf, bytes_of, quoted, row_of
from pipelines.dataset.query import Samples


def shuffled(
    source: DataFrame,
    samples: Samples,
    leaves: Sequence[Leaf],
    key: str,
    seed: int,
    shards: int,
    named: DataFrame | None = None,
) -> DataFrame:
    """Media of `leaves` and `samples`, in `shards` partitions by the seeded hash of their row.

    `named` holds each `row` whose media go along, few enough to broadcast; None for all.
    """
    placed = _placed_samples(samples, key, seed, shards)
    if samples.handles:
        media = _media(source, leaves, key)
        if named is not None:
            media = media.join(F.broadcast(named), F.col("__row") == F.col("row"), "left_semi")
        own = media.select(*_place(F.col("__row"), seed, shards), *media.columns)
        placed = placed.unionByName(own, allowMissingColumns=True)
        if samples.mixed and len(samples.handles) > 1:
            placed = placed.unionByName(_guests(media, samples, seed, shards), allowMissingColumns=True)
    return placed.repartitionById(shards, F.col("__shard"))


def named_rows(samples: Samples) -> DataFrame:
    """Each `row` whose media any of `samples` names, once."""
    rows = F.array(*(F.col(quoted(name)).getField("__row") for name in samples.handles))
    return samples.frame.select(F.explode(rows).alias("row")).where("row IS NOT NULL").distinct()


def _place(row: Column, seed: int, shards: int) -> list[Column]:
    order = F.xxhash64(F.lit(seed), row)
    return [F.pmod(order, F.lit(shards)).cast("int").alias("__shard"), order.alias("__order")]


def _guests(media: DataFrame, samples: Samples, seed: int, shards: int) -> DataFrame:
    """Media that samples of another row name, placed with that row; they cross the network once for each such row."""
    rows = [F.col(quoted(name)).getField("__row") for name in samples.handles]
    needs = (
        samples.frame.select(F.coalesce(*rows).alias("host"), F.explode(F.array(*rows)).alias("guest"))
        .where("guest <> host")
        .distinct()
        .select(*_place(F.col("host"), seed, shards), "guest")
    )
    joined = media.join(needs.hint("shuffle_hash"), F.col("__row") == F.col("guest"))
    return joined.select("__shard", "__order", *media.columns)


def _media(source: DataFrame, leaves: Sequence[Leaf], key: str) -> DataFrame:
    return source.select(
        row_of(key).alias("__row"),
        F.lit(None).cast("long").alias("__hash"),
        F.col(quoted(key)).cast("string").alias("__key"),
        *(bytes_of(leaf, source.schema).alias(f"m{leaf.slot}") for leaf in leaves),
    )


def _placed_samples(samples: Samples, key: str, seed: int, shards: int) -> DataFrame:
    frame = samples.frame
    hashed = F.xxhash64(*(_hashable(F.col(quoted(f.name)), f.dataType) for f in samples.schema.fields))
    alike = samples.handles or samples.binary
    first = F.coalesce(*(F.col(quoted(name)) for name in alike)) if alike else None
    if first is None:
        row = hashed
    elif samples.handles:
        row = F.coalesce(first.getField("__row"), hashed)
    else:  # equal bytes meet in one shard, where they are stored once
        row = F.coalesce(F.when(first.isNotNull(), F.xxhash64(first)), hashed)
    name = F.col(quoted(key)).cast("string") if key in samples.columns else F.lit(None).cast("string")
    return frame.select(
        *_place(row, seed, shards),
        row.alias("__row"),
        hashed.alias("__hash"),
        name.alias("__key"),
        *(F.col(quoted(column)).alias(f"s{i}") for i, column in enumerate(samples.columns)),
        *(why for why in samples.causes if why is not None),
    )


def _hashable(value: Column, data_type: DataType) -> Column:
    """`value` as something that Spark hashes: it refuses maps, whose entries have no order."""
    return F.to_json(F.struct(value)) if _holds_map(data_type) else value


def _holds_map(data_type: DataType) -> bool:
    if isinstance(data_type, MapType):
        return True
    if isinstance(data_type, ArrayType):
        return _holds_map(data_type.elementType)
    if isinstance(data_type, StructType):
        return any(_holds_map(field.dataType) for field in data_type.fields)
    return False
