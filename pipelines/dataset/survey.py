"""What is counted of a source before anything is written: keys, rows, and the bytes that will be stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.dataset.media import Leaf, bytes_of, quoted, row_of
from pipelines.errors import DataError

EXAMPLES = 10


@dataclass(frozen=True)
class Survey:
    """Counts of a source: all its rows, the rows that samples name, and the bytes of the media used in those."""

    rows: int
    named_rows: int
    media_bytes: int


def survey(source: DataFrame, key: str, leaves: Sequence[Leaf], named: DataFrame | None) -> Survey:
    """Count rows and media bytes; `named` holds the `row`s that samples name, None for all of them.

    Raises DataError if the key is null somewhere or not unique, naming examples.
    """
    sizes = [_size(bytes_of(leaf, source.schema), leaf) for leaf in leaves]
    rows = source.select(
        row_of(key).alias("row"),
        F.col(quoted(key)).isNull().alias("no_key"),
        sum(sizes, F.lit(0).cast("long")).alias("size"),
    )
    counted = rows.withColumn("named", F.lit(True)) if named is None else _joined(rows, named)
    counts = counted.agg(
        F.count("*").alias("rows"),
        F.count_if("no_key").alias("null_keys"),
        F.count_if("named").alias("named_rows"),
        F.coalesce(F.sum(F.when(F.col("named"), F.col("size"))), F.lit(0)).alias("media_bytes"),
    ).head()
    assert counts is not None
    if counts["null_keys"]:
        raise DataError(
            f"dataset.shuffle.key: found {counts['null_keys']:,} of {counts['rows']:,} rows with null in {key!r}, "
            "expected a key in every row"
        )
    _check_unique(source, key)
    return Survey(counts["rows"], counts["named_rows"], counts["media_bytes"])


def _joined(rows: DataFrame, named: DataFrame) -> DataFrame:
    marked = named.select("row", F.lit(True).alias("named"))
    return rows.join(marked, "row", "left").fillna(False, ["named"])


def _size(media: Column, leaf: Leaf) -> Column:
    if not leaf.repeated:
        return F.coalesce(F.octet_length(media), F.lit(0)).cast("long")
    zero = F.lit(0).cast("long")
    added = F.aggregate(media, zero, lambda total, x: total + F.coalesce(F.octet_length(x), F.lit(0)))
    return F.coalesce(added, zero)


def _check_unique(source: DataFrame, key: str) -> None:
    """By the hash of the key: two keys with one hash could not be told apart either."""
    text = F.col(quoted(key)).cast("string")
    repeated = (
        source.select(row_of(key).alias("row"), text.alias("key"))
        .groupBy("row")
        .agg(F.count("*").alias("count"), F.min("key").alias("first"), F.max("key").alias("last"))
        .where("count > 1")
    )
    found = repeated.orderBy("first").limit(EXAMPLES + 1).collect()
    if not found:
        return
    clash = next((r for r in found if r["first"] != r["last"]), None)
    if clash is not None:
        raise DataError(
            f"dataset.shuffle.key: found {clash['first']!r} and {clash['last']!r} with the same 64-bit hash, "
            "expected keys that differ in it; change one"
        )
    shown = ", ".join(f"{r['first']!r} ×{r['count']}" for r in found[:EXAMPLES])
    more = " and more" if len(found) > EXAMPLES else ""
    raise DataError(f"dataset.shuffle.key: found keys of {key!r} more than once: {shown}{more}; expected unique keys")
