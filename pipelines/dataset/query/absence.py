"""The absence ledger: for every output column, how many values are missing, why, and examples.

A value is absent for one of three causes:

- `structure`: there was no place for it: an empty array or map, a map without the key, an index past the end;
- `data`: the place existed and held null;
- `algorithm`: a function received all its arguments and returned nothing.

The cause is computed for each row, by expressions derived from the query's plan, and travels with the samples as a
small integer. Where the plan does not show it (the column comes from an aggregate, a union or a subquery), null counts
as `data`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.dataset.query.plan import analysed, items, kind, nodes

CAUSES = ("structure", "data", "algorithm")
STRUCTURE, DATA, ALGORITHM = range(len(CAUSES))
EXAMPLES = 10
WHY = "__why"


def with_causes(frame: DataFrame, view: str) -> tuple[DataFrame, tuple[str | None, ...]]:
    """`frame` with a column `__why<i>`, an index into CAUSES, for each column whose cause the plan shows.

    Returns the frame and, for each of the query's columns, the name of its cause column or None.
    """
    project = analysed(frame)
    if kind(project) != "Project":
        return frame, (None,) * len(frame.columns)
    spark = frame.sparkSession
    catalyst = spark._jvm.org.apache.spark.sql.classic  # type: ignore[union-attr]
    reader = _Reader(project.child(), view, catalyst)
    expressions = items(project.projectList())
    causes = [reader.cause(expression) for expression in expressions]
    columns = [reader.column(expression) for expression in expressions]
    whys = [cause.cast("tinyint").alias(f"{WHY}{i}") for i, cause in enumerate(causes) if cause is not None]
    below = DataFrame(catalyst.Dataset.ofRows(spark._jsparkSession, project.child()), spark)
    return below.select(*columns, *whys), tuple(None if c is None else f"{WHY}{i}" for i, c in enumerate(causes))


class _Reader:
    """Derives, from the expressions of a projection, expressions for why their values are null."""

    def __init__(self, child: Any, view: str, catalyst: Any) -> None:
        self._catalyst = catalyst
        self._reach = {attribute.exprId().id() for attribute in items(child.output())}
        self._generated = {
            attribute.exprId().id(): items(node.generator().children())
            for node in nodes(child, view)
            if kind(node) == "Generate"
            for attribute in items(node.generatorOutput())
        }

    def column(self, expression: Any) -> Column:
        """A Catalyst expression as a column."""
        return Column(self._catalyst.ExpressionUtils.column(expression))

    def cause(self, expression: Any) -> Column | None:
        """Why `expression` is null in rows where it is null, as a column; None if the cause is always data."""
        name, children = kind(expression), items(expression.children())
        if name in {"Alias", "Cast"}:
            return self.cause(children[0])
        if name == "AttributeReference":
            return self._of_generated(self._generated.get(expression.exprId().id(), []))
        if name == "GetStructField":
            return self._of_field(expression, children[0])
        if name in {"GetMapValue", "ElementAt", "GetArrayItem", "Get"}:
            return self._of_item(name, *children[:2])
        if not children:
            return None
        return self._of_function(children)

    def _of_field(self, expression: Any, struct: Any) -> Column | None:
        """The cause for a field of a struct. Testing the struct itself for null would read all of its fields."""
        sources = self._generated.get(struct.exprId().id(), []) if kind(struct) == "AttributeReference" else []
        if sources and sources[0].dataType().typeName() == "array":
            return self._of_generated(sources, expression.extractFieldName())
        return None if self.cause(struct) is None else self._unless_null(struct, F.lit(DATA))

    def _of_generated(self, sources: list[Any], field: str | None = None) -> Column | None:
        """The cause for an exploded column or its field: there was nothing to explode, or an element was null."""
        if len(sources) != 1 or not self._reachable(sources[0]):
            return None
        source = self.column(sources[0])
        if field is not None:
            source = source.getField(field)
        above = F.when(F.size(source) == 0, STRUCTURE) if _is_collection(sources[0]) else None
        if above is None:
            return None
        return above.when(source.isNull(), self._or_data(sources[0])).otherwise(DATA)

    def _of_item(self, name: str, source: Any, place: Any) -> Column | None:
        """The cause for an item of a map or array: the key or index does not exist, or its value is null."""
        if not self._reachable(source) or not self._reachable(place):
            return None
        collection, at = self.column(source), self.column(place)
        if source.dataType().typeName() == "map":
            there = F.map_contains_key(collection, at)
        elif name == "ElementAt":  # counts from 1, or from the end
            there = F.abs(at) <= F.size(collection)
        else:
            there = (at >= 0) & (at < F.size(collection))
        return self._unless_null(source, F.when(there, DATA).otherwise(STRUCTURE))

    def _unless_null(self, source: Any, cause: Column) -> Column | None:
        if not self._reachable(source):
            return None
        return F.when(self.column(source).isNull(), self._or_data(source)).otherwise(cause)

    def _of_function(self, arguments: list[Any]) -> Column | None:
        """The cause of the first argument that is null; if none is null, the function itself."""
        if not all(self._reachable(argument) for argument in arguments):
            return None
        cause: Column | None = None
        for argument in arguments:
            if argument.nullable():
                missing, why = self.column(argument).isNull(), self._or_data(argument)
                cause = F.when(missing, why) if cause is None else cause.when(missing, why)
        return F.lit(ALGORITHM) if cause is None else cause.otherwise(ALGORITHM)

    def _or_data(self, expression: Any) -> Column:
        cause = self.cause(expression)
        return F.lit(DATA) if cause is None else cause

    def _reachable(self, expression: Any) -> bool:
        """Whether `expression` is made of constants and of columns of the rows below the projection, and so has the
        same value there. A lambda's variable, an outer query's column and a subquery are neither.
        """
        if kind(expression) == "AttributeReference":
            return expression.exprId().id() in self._reach
        children = items(expression.children())
        return all(self._reachable(child) for child in children) if children else bool(expression.foldable())


def _is_collection(expression: Any) -> bool:
    return str(expression.dataType().typeName()) in {"array", "map"}


def ledger(rows: int, columns: Iterable[str], reports: Iterable[Mapping]) -> dict[str, dict[str, Any]]:
    """For each output column: its rows, its nulls by cause, and example keys, summed over the shards' reports."""
    found: dict[str, dict[str, Any]] = {
        name: {"rows": rows, "nulls": 0, **{cause: {"count": 0, "examples": []} for cause in CAUSES}}
        for name in columns
    }
    for report in reports:
        for name, causes in report.get("nulls", {}).items():
            for cause, nulls in causes.items():
                entry = found[name][cause]
                found[name]["nulls"] += nulls["count"]
                entry["count"] += nulls["count"]
                entry["examples"] = sorted({*entry["examples"], *filter(None, nulls["keys"])})[:EXAMPLES]
    return found
