"""Opening a build's source, and what is counted of it before anything is written."""

from dataclasses import dataclass

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from pipelines.dataset.media import Leaf, bytes_of, quoted, row_of
from pipelines.errors import DataError, RecipeError
from pipelines.recipe.dataset import Source

EXAMPLES = 10


@dataclass(frozen=True)
class Survey:
    """Counts of a source: rows, and the media bytes that all its leaves hold together."""

    rows: int
    media_bytes: int


def open_source(spark: SparkSession, source: Source) -> DataFrame:
    """The source as a frame. Raises RecipeError if there is no such table or no such files."""
    try:
        if source.table is not None:
            return spark.table(source.table)
        if source.format == "delta":
            return _open_delta(spark, str(source.path))
        return spark.read.format(source.format).load(source.path)
    except AnalysisException as error:
        key = "table" if source.table is not None else "path"
        found = source.table or source.path
        raise RecipeError(f"dataset.source.{key}: found {found!r}: {sql_problem(error)}") from None


def _open_delta(spark: SparkSession, path: str) -> DataFrame:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        files = DeltaTable(path).file_uris()
    except (DeltaError, TableNotFoundError, OSError):
        raise RecipeError(f"dataset.source.path: found {path!r}, expected a Delta table") from None
    return spark.read.parquet(*files)


def sql_problem(error: PySparkException) -> str:
    """Spark's complaint as one line, without the plan it dumps."""
    first = str(error).split("\n", 1)[0].split(" SQLSTATE:", 1)[0]
    return first.strip().rstrip(";.")


def check_key(source: DataFrame, key: str) -> None:
    """Raise RecipeError if the source has no column `key`."""
    if key not in source.columns:
        raise RecipeError(
            f"dataset.shuffle.key: found no column {key!r} in the source, expected one of {', '.join(source.columns)}"
        )


def survey(source: DataFrame, key: str, leaves: tuple[Leaf, ...]) -> Survey:
    """Count rows and media bytes. Raises DataError if the key is null somewhere or not unique, naming examples."""
    sizes = [_size(bytes_of(leaf, source.schema), leaf) for leaf in leaves]
    counts = source.agg(
        F.count("*").alias("rows"),
        F.count_if(F.col(quoted(key)).isNull()).alias("null_keys"),
        F.coalesce(F.sum(sum(sizes, F.lit(0).cast("long"))), F.lit(0)).alias("media_bytes"),
    ).head()
    assert counts is not None
    if counts["null_keys"]:
        raise DataError(
            f"dataset.shuffle.key: found {counts['null_keys']:,} of {counts['rows']:,} rows with null in {key!r}, "
            "expected a key in every row"
        )
    _check_unique(source, key)
    return Survey(counts["rows"], counts["media_bytes"])


def _size(media, leaf: Leaf):
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
