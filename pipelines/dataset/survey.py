"""The survey before anything is written: it counts keys, rows and samples, and estimates the bytes to store.

One job reads the key and the columns that the query uses. It reads no media if Parquet's footers tell their sizes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.dataset.query.media import Leaf, bytes_column, quoted
from headrace.dataset.query.placement import Rows
from headrace.dataset.query.samples import Samples
from headrace.dataset.source.footers import bytes_a_row
from headrace.errors import DataError

EXAMPLES = 10
# The estimated size of a sample's columns other than media.
BYTES_OF_TEXT = 32
# Rows, or places in the order, with more samples than this are dealt to several shards …
HOT_SAMPLES = 50_000
# … but only the largest ones, up to this number.
MOST_HOT = 1000


@dataclass(frozen=True)
class Survey:
    """Counts of a source and a query over it."""

    rows: int
    named_rows: int
    """rows whose media some sample uses"""
    samples: int
    media_bytes: int
    """bytes of the media in the named rows, estimated"""
    hot_rows: Mapping[int, int] = field(default_factory=dict)
    """the number of samples of each row that has more than HOT_SAMPLES, by row hash"""
    hot_orders: Mapping[int, int] = field(default_factory=dict)
    """the number of samples at each place in the order that has more than HOT_SAMPLES"""
    extra: Mapping[str, int] = field(default_factory=dict)
    """sums over the source's rows, by name"""
    leaves: tuple[Leaf, ...] = ()
    """the leaves whose media samples use"""


def count_rows(source: DataFrame, rows: Rows, samples: Samples, extra: Mapping[str, Column]) -> DataFrame:
    """Counts by row of the source: `row`, `order`, `rows`, `nulls`, `samples`, `named`, `slots`, and `extra` sums.

    Samples that use no media are not counted.
    """
    own = source.select(
        rows.row.alias("row"),
        rows.order.alias("order"),
        F.lit(1).alias("rows"),
        F.col(quoted(rows.key)).isNull().cast("int").alias("nulls"),
        F.lit(0).alias("samples"),
        F.lit(0).cast("long").alias("slots"),
        F.lit(False).alias("named"),
        *(column.cast("long").alias(name) for name, column in extra.items()),
    )
    if samples.handles:
        own = own.unionByName(_of_samples(samples), allowMissingColumns=True)
    sums = (F.sum(name).alias(name) for name in ("rows", "nulls", "samples", *extra))
    slots = F.bit_or("slots").alias("slots")
    return own.groupBy("row").agg(F.max("order").alias("order"), *sums, F.max("named").alias("named"), slots)


def _of_samples(samples: Samples) -> DataFrame:
    handles = [F.col(quoted(name)) for name in samples.handles]
    named = [(F.coalesce(*handles), 1)]
    if samples.mixed:
        named += [(handle, 0) for handle in handles[1:]]
    parts = F.array(
        *(
            F.struct(
                handle.getField("__row").alias("row"), handle.getField("__order").alias("order"), F.lit(n).alias("n")
            )
            for handle, n in named
        )
    )
    # One bit for each slot that the sample's handles name. Slots that are 64 apart share one.
    bits = (
        F.coalesce(F.call_function("shiftleft", F.lit(1).cast("long"), handle.getField("__slot")), F.lit(0))
        for handle in handles
    )
    slots = reduce(Column.bitwiseOR, bits).alias("slots")
    frame = samples.frame.select((F.explode(parts) if len(named) > 1 else parts[0]).alias("s"), slots)
    return frame.where("s.row IS NOT NULL").select(
        "s.row",
        "s.order",
        F.lit(0).alias("rows"),
        F.lit(0).alias("nulls"),
        F.col("s.n").alias("samples"),
        "slots",
        F.lit(True).alias("named"),
    )


def survey(
    source: DataFrame,
    rows: Rows,
    leaves: Sequence[Leaf],
    by_row: DataFrame,
    extra: Sequence[str],
    from_files: bool,
) -> Survey:
    """Add up the counts of `count_rows`.

    `leaves` are those that samples may use. `from_files` allows reading sizes from Parquet's footers. Raises DataError,
    with examples, if a key is null or not unique.
    """
    hot = F.struct("samples", "row").alias("hot")
    counts = by_row.agg(
        *(F.coalesce(F.sum(name), F.lit(0)).alias(name) for name in ("rows", "nulls", "samples", *extra)),
        F.count_if("named").alias("named"),
        F.coalesce(F.bit_or("slots"), F.lit(0)).alias("slots"),
        F.coalesce(F.max("rows"), F.lit(0)).alias("most"),
        F.slice(F.sort_array(F.collect_list(F.when(F.col("samples") > HOT_SAMPLES, hot)), False), 1, MOST_HOT).alias(
            "hot"
        ),
    ).head()
    assert counts is not None
    if counts["nulls"]:
        raise DataError(
            f"dataset.shuffle.key: found {counts['nulls']:,} of {counts['rows']:,} rows with null in {rows.key!r}, "
            "expected a key in every row"
        )
    if counts["most"] > 1:
        raise _repeated(source, rows)
    leaves = tuple(leaf for leaf in leaves if counts["slots"] >> leaf.slot % 64 & 1)
    sizes = bytes_a_row(source, leaves) if from_files else None
    if sizes is None:
        media = _weighed_media(source, leaves) * counts["named"] // max(1, counts["rows"])
    else:
        media = round(sum(sizes.values()) * counts["named"])
    return Survey(
        counts["rows"],
        counts["named"],
        counts["samples"],
        media,
        {hot["row"]: hot["samples"] for hot in counts["hot"]},
        _hot_orders(by_row) if rows.home is not None else {},
        {name: counts[name] for name in extra},
        leaves,
    )


def _hot_orders(by_row: DataFrame) -> dict[int, int]:
    """The places in the order with more than HOT_SAMPLES samples or rows, apart from those of hot rows."""
    weight = F.sum(F.greatest("samples", "rows"))
    found = (
        by_row.where(F.col("samples") <= HOT_SAMPLES)
        .groupBy("order")
        .agg(weight.alias("weight"))
        .where(F.col("weight") > HOT_SAMPLES)
        .orderBy(F.desc("weight"), "order")
        .limit(MOST_HOT)
        .collect()
    )
    return {row["order"]: row["weight"] for row in found}


def weigh(frame: DataFrame, binary: Sequence[str]) -> tuple[int, int]:
    """The number of rows of `frame`, and the estimated bytes of the distinct values in its `binary` columns.

    For queries by value, whose bytes are known only by running the query.
    """
    columns = [F.col(quoted(name)) for name in binary]
    parts = [F.avg(F.octet_length(c)) * F.approx_count_distinct(F.xxhash64(c)) for c in columns]
    found = frame.agg(F.count("*").alias("samples"), *(p.alias(f"b{i}") for i, p in enumerate(parts))).head()
    assert found is not None
    samples, *weights = found
    return samples, int(sum(weight or 0 for weight in weights))


def _weighed_media(source: DataFrame, leaves: Sequence[Leaf]) -> int:
    """The bytes of the media of all rows. This reads the media."""
    sizes = [_size(bytes_column(leaf, source.schema), leaf) for leaf in leaves]
    if not sizes:
        return 0
    found = source.agg(F.coalesce(F.sum(sum(sizes, F.lit(0).cast("long"))), F.lit(0))).head()
    assert found is not None
    return int(found[0])


def _size(media: Column, leaf: Leaf) -> Column:
    if not leaf.repeated:
        return F.coalesce(F.octet_length(media), F.lit(0)).cast("long")
    zero = F.lit(0).cast("long")
    added = F.aggregate(media, zero, lambda total, x: total + F.coalesce(F.octet_length(x), F.lit(0)))
    return F.coalesce(added, zero)


def _repeated(source: DataFrame, rows: Rows) -> DataError:
    """The error for keys that repeat, or for two keys with the same hash, which the build could not distinguish."""
    found = (
        source.select(rows.row.alias("row"), F.col(quoted(rows.key)).cast("string").alias("key"))
        .groupBy("row")
        .agg(F.count("*").alias("count"), F.min("key").alias("first"), F.max("key").alias("last"))
        .where("count > 1")
        .orderBy("first")
        .limit(EXAMPLES + 1)
        .collect()
    )
    clash = next((r for r in found if r["first"] != r["last"]), None)
    if clash is not None:
        return DataError(
            f"dataset.shuffle.key: found {clash['first']!r} and {clash['last']!r} with the same 64-bit hash, "
            "expected keys with different hashes; change one"
        )
    shown = ", ".join(f"{r['first']!r} ×{r['count']}" for r in found[:EXAMPLES])
    more = " and more" if len(found) > EXAMPLES else ""
    return DataError(
        f"dataset.shuffle.key: found keys of {rows.key!r} more than once: {shown}{more}; expected unique keys"
    )
