"""Running a recipe's HiveQL over the view `source`, by reference where Spark allows it, else by value."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import BinaryType, StructType

from headrace.dataset.partitions import partition_value
from headrace.dataset.query.absence import with_causes
from headrace.dataset.query.handles import computes_on_media, depends_on_null_media, mixes_rows
from headrace.dataset.query.media import ITEM, Leaf, Path, holds_handle, is_handle, quoted
from headrace.dataset.query.origins import Origins
from headrace.dataset.query.placement import Rows
from headrace.dataset.query.plan import analysed
from headrace.dataset.query.references import by_reference
from headrace.dataset.query.used import used_paths
from headrace.dataset.spark_errors import SPARK_ERRORS, sql_problem
from headrace.errors import RecipeError

VIEW = "source"
RESERVED = "sample_id"
# The column that holds the table's partition value. The log records it; the files do not.
PARTITION = "__partition"


@dataclass(frozen=True)
class Samples:
    """The result of a query: one row a sample.

    `columns` are the query's columns; `frame` may have helper columns after them. Media are handles unless `by_value`
    is set: it then gives the reason why the query runs by value. `causes` has, for each column, the name of the column
    that says why it is null, or None where the plan does not show it. `key` is a column that has the key of a source
    row, if the query passes it on, whatever it is called. `mixed` is true if media of several source rows may end up in
    one sample.
    """

    frame: DataFrame
    causes: tuple[str | None, ...]
    columns: tuple[str, ...]
    by_value: str | None
    key: str | None
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
        """The columns that are stored as media, each distinct value once. The first one is the image."""
        return self.handles + self.binary

    def named(self, name: str) -> str | None:
        """The query's column called `name`, in any case: Spark and Delta do not tell `DS` from `ds`."""
        return next((column for column in self.columns if column.lower() == name.lower()), None)

    def partitioned(self, name: str) -> "Samples":
        """The samples with column `name` moved to `PARTITION`, or unchanged if there is no such column."""
        found = self.named(name)
        if found is None:
            return self
        kept = [i for i, other in enumerate(self.columns) if other != found]
        columns, causes = tuple(self.columns[i] for i in kept), tuple(self.causes[i] for i in kept)
        whys = [F.col(why) for why in causes if why is not None]
        aside = partition_value(F.col(quoted(found))).alias(PARTITION)
        frame = self.frame.select(*(F.col(quoted(column)) for column in columns), *whys, aside)
        key = self.key if self.key in columns else None
        return replace(self, frame=frame, columns=columns, causes=causes, key=key)


def check_query(spark: SparkSession, query: str) -> None:
    """Raise RecipeError unless `query` is a single SELECT: a recipe must not change tables."""
    try:
        spark._jsparkSession.sessionState().sqlParser().parseQuery(query)
    except SPARK_ERRORS as error:
        raise RecipeError(f"dataset.query: {sql_problem(error)}; expected one SELECT") from None


@contextmanager
def run_query(
    source: DataFrame, query: str, leaves: Sequence[Leaf], rows: Rows, hidden: Sequence[str] = ()
) -> Iterator[Samples]:
    """The samples of `query`. The view `source` exists inside the `with` block; it leaves out the `hidden` columns.

    Raises RecipeError if the query fails both by reference and by value (with Spark's message), if two of its columns
    have the same name, or if one is called `sample_id`.
    """
    try:
        yield _checked(_run(_View(source, query, leaves, rows, hidden)))
    finally:
        source.sparkSession.catalog.dropTempView(VIEW)


@dataclass(frozen=True)
class _View:
    source: DataFrame
    query: str
    leaves: Sequence[Leaf]
    rows: Rows
    hidden: Sequence[str]

    def by_value(self) -> DataFrame:
        return self._run(self.source)

    def by_reference(self, blind: bool, used: Collection[Path] | None = None) -> DataFrame:
        return self._run(by_reference(self.source, self.leaves, self.rows, blind, used))

    def _run(self, view: DataFrame) -> DataFrame:
        view.drop(*self.hidden).createOrReplaceTempView(VIEW)
        return view.sparkSession.sql(self.query)

    def used(self) -> Collection[Path] | None:
        """The paths of what the query uses of the source; None (anything) where no media are inside structs."""
        if not any(part != ITEM for leaf in self.leaves for part in leaf.path[1:]):
            return None
        try:
            schema = self.source.drop(*self.hidden).schema
            return used_paths(self.source.sparkSession, self.query, VIEW, schema)
        except SPARK_ERRORS:
            return None


def _run(view: _View) -> Samples:
    try:
        frame = view.by_reference(blind=True, used=view.used())
        if depends_on_null_media(frame, VIEW):
            frame = view.by_reference(blind=False)
        reason = _nested(frame) or computes_on_media(frame, VIEW, view.rows.key)
        if reason is None:
            return _samples(frame, view.rows.key, None)
    except SPARK_ERRORS as error:
        reason = sql_problem(error)
    try:
        return _samples(view.by_value(), view.rows.key, reason)
    except SPARK_ERRORS as error:
        raise RecipeError(f"dataset.query: {sql_problem(error)}") from None


def _samples(frame: DataFrame, key: str, by_value: str | None) -> Samples:
    root, columns = analysed(frame), tuple(frame.columns)
    place = Origins(root, VIEW, key).key_column(root)
    mixed = by_value is None and mixes_rows(frame, VIEW)
    return Samples(*with_causes(frame, VIEW), columns, by_value, None if place is None else columns[place], mixed)


def _nested(frame: DataFrame) -> str | None:
    for field in frame.schema.fields:
        if holds_handle(field.dataType) and not is_handle(field.dataType):
            return f"column {field.name} holds media inside an array, struct or map"
    return None


def _checked(samples: Samples) -> Samples:
    names = samples.columns
    for name in names:
        if sum(other.lower() == name.lower() for other in names) > 1:
            raise RecipeError(f"dataset.query: found two columns named {name!r}, expected different names: use AS")
        if name.lower() == RESERVED:
            raise RecipeError(f"dataset.query: found a column {name!r}, expected none: the build adds its own")
    return samples
