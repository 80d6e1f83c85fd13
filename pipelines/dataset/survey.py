"""What is counted of a source before anything is written: keys, rows, and the bytes that will be stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from pipelines.dataset.media import Leaf, bytes_of, quoted, row_of
from pipelines.errors import DataError

EXAMPLES = 10
# What a row's columns other than media are taken to weigh once compressed.
BYTES_OF_TEXT = 32


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
        F.lit(1).alias("count"),
        F.col(quoted(key)).isNull().cast("int").alias("null_keys"),
        sum(sizes, F.lit(0).cast("long")).alias("size"),
        F.lit(named is None).alias("named"),
    )
    if named is not None:
        rows = rows.union(named.select("row", F.lit(0), F.lit(0), F.lit(0).cast("long"), F.lit(True)))
    by_row = rows.groupBy("row").agg(
        *(F.sum(name).alias(name) for name in ("count", "null_keys", "size")), F.max("named").alias("named")
    )
    counts = by_row.agg(
        F.coalesce(F.sum("count"), F.lit(0)).alias("rows"),
        F.coalesce(F.sum("null_keys"), F.lit(0)).alias("null_keys"),
        F.coalesce(F.sum(F.when(F.col("named"), F.col("size"))), F.lit(0)).alias("media_bytes"),
        F.count_if("named").alias("named_rows"),
        F.coalesce(F.max("count"), F.lit(0)).alias("most"),
    ).head()
    assert counts is not None
    if counts["null_keys"]:
        raise DataError(
            f"dataset.shuffle.key: found {counts['null_keys']:,} of {counts['rows']:,} rows with null in {key!r}, "
            "expected a key in every row"
        )
    if counts["most"] > 1:
        raise _repeated(source, key)
    return Survey(counts["rows"], counts["named_rows"], counts["media_bytes"])


def weigh(frame: DataFrame, binary: Sequence[str]) -> int:
    """About how many bytes `frame` takes when each value of its `binary` columns is stored once; text is guessed.

    For samples that name no media: their bytes are seen only by running the query.
    """
    columns = [F.col(quoted(name)) for name in binary]
    parts = [F.avg(F.octet_length(c)) * F.approx_count_distinct(F.xxhash64(c)) for c in columns]
    found = frame.agg((F.count("*") * BYTES_OF_TEXT).alias("text"), *(p.alias(f"b{i}") for i, p in enumerate(parts)))
    weights = found.head()
    assert weights is not None
    return int(sum(weight or 0 for weight in weights))


def _size(media: Column, leaf: Leaf) -> Column:
    if not leaf.repeated:
        return F.coalesce(F.octet_length(media), F.lit(0)).cast("long")
    zero = F.lit(0).cast("long")
    added = F.aggregate(media, zero, lambda total, x: total + F.coalesce(F.octet_length(x), F.lit(0)))
    return F.coalesce(added, zero)


def _repeated(source: DataFrame, key: str) -> DataError:
    """What to say of keys that repeat, or of two keys with one hash, which could not be told apart either."""
    found = (
        source.select(row_of(key).alias("row"), F.col(quoted(key)).cast("string").alias("key"))
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
            "expected keys that differ in it; change one"
        )
    shown = ", ".join(f"{r['first']!r} ×{r['count']}" for r in found[:EXAMPLES])
    more = " and more" if len(found) > EXAMPLES else ""
    return DataError(f"dataset.shuffle.key: found keys of {key!r} more than once: {shown}{more}; expected unique keys")
