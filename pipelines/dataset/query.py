"""Running a recipe's HiveQL over the view `source`: by reference where Spark lets it, else by value."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import BinaryType, StructType

from pipelines.dataset.absence import with_causes
from pipelines.dataset.media import Leaf, by_reference, holds_handle, is_handle
from pipelines.dataset.plan import computes_on_media, mixes_rows
from pipelines.dataset.source import sql_problem
from pipelines.errors import RecipeError

VIEW = "source"
RESERVED = "sample_id"


@dataclass(frozen=True)
class Samples:
    """What a query gives: `columns` of `frame`, with handles in the place of media unless `by_value` says why not.

    `causes` names for each column the one that says why it is null, if the plan shows that; `mixed` says whether media
    of several source rows may meet in one sample.
    """

    frame: DataFrame
    causes: tuple[str | None, ...]
    columns: tuple[str, ...]
    by_value: str | None
    mixed: bool

    @property
    def schema(self) -> StructType:
        """The schema of `columns`."""
        return StructType(self.frame.schema.fields[: len(self.columns)])

    @property
    def handles(self) -> tuple[str, ...]:
        """The columns of handles, in the query's order."""
        return tuple(field.name for field in self.schema.fields if is_handle(field.dataType))

    @property
    def binary(self) -> tuple[str, ...]:
        """The columns that hold bytes."""
        return tuple(field.name for field in self.schema.fields if isinstance(field.dataType, BinaryType))

    @property
    def media(self) -> tuple[str, ...]:
        """The columns that are stored as media: each value once. The first is the image."""
        return self.handles + self.binary


@contextmanager
def run_query(source: DataFrame, query: str, leaves: Sequence[Leaf], key: str) -> Iterator[Samples]:
    """The samples of `query`, while its view exists.

    Raises RecipeError with Spark's complaint if the query fails by reference and by value, if it names a column twice
    or names one `sample_id`.
    """
    spark = source.sparkSession
    try:
        yield _checked(_run(spark, source, query, leaves, key))
    finally:
        spark.catalog.dropTempView(VIEW)


def _run(spark: SparkSession, source: DataFrame, query: str, leaves: Sequence[Leaf], key: str) -> Samples:
    by_reference(source, leaves, key).createOrReplaceTempView(VIEW)
    try:
        frame = spark.sql(query)
        reason = _nested(frame) or computes_on_media(frame, VIEW, key)
        if reason is None:
            return Samples(*with_causes(frame, VIEW), tuple(frame.columns), None, mixes_rows(frame, VIEW))
    except AnalysisException as error:
        reason = sql_problem(error)
    source.createOrReplaceTempView(VIEW)
    try:
        frame = spark.sql(query)
        return Samples(*with_causes(frame, VIEW), tuple(frame.columns), reason, False)
    except AnalysisException as error:
        raise RecipeError(f"dataset.query: {sql_problem(error)}") from None


def _nested(frame: DataFrame) -> str | None:
    for field in frame.schema.fields:
        if holds_handle(field.dataType) and not is_handle(field.dataType):
            return f"column {field.name} holds media inside an array, struct or map"
    return None


def _checked(samples: Samples) -> Samples:
    names = samples.columns
    for name in names:
        if sum(other.lower() == name.lower() for other in names) > 1:
            raise RecipeError(f"dataset.query: found two columns named {name!r}, expected a name for each: use AS")
        if name.lower() == RESERVED:
            raise RecipeError(f"dataset.query: found a column {name!r}, expected none: the build adds its own")
    return samples
