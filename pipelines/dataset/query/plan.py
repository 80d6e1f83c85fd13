"""Reading Spark's plan of a query: its nodes and expressions, and which rows it keeps."""

from collections.abc import Iterator
from typing import Any

from pyspark.sql import DataFrame

# Nodes whose rows consist of rows of their inputs, with the same column ids.
_PASSING = """
    Project Filter Join LateralJoin Aggregate Generate Window Sort SubqueryAlias View WithCTE Distinct Intersect Except
    GlobalLimit LocalLimit Offset Sample Repartition RepartitionByExpression RebalancePartitions ResolvedHint
"""
PASSING = frozenset(_PASSING.split())
# Bytes of a table that one task reads, about: the default of spark.sql.files.maxPartitionBytes.
BYTES_OF_SPLIT = 128 << 20
# Nodes that may drop rows.
_FILTERS = frozenset({"Filter", "Join", "Aggregate", "Intersect", "Except", "LateralJoin"})
# Nodes whose result depends on which rows come first, or on how rows are divided into tasks. That may change.
_PICKING = frozenset({"GlobalLimit", "LocalLimit", "Offset", "Sample"})


def analysed(frame: DataFrame) -> Any:
    """The root of the analysed plan, a JVM object."""
    return frame._jdf.queryExecution().analyzed()


def items(scala_seq: Any) -> list[Any]:
    """A Scala sequence as a list."""
    return [scala_seq.apply(i) for i in range(scala_seq.size())]


def kind(node: Any) -> str:
    """The simple class name of a plan node or an expression."""
    return node.getClass().getSimpleName()


def is_view(node: Any, view: str) -> bool:
    """Whether `node` is the temporary view named `view`. Tables, subqueries and CTEs may have the same name."""
    if kind(node) != "View" or not node.isTempView():
        return False
    identifier = node.desc().identifier()
    return identifier.table() == view and identifier.database().isEmpty()


def reads_files(node: Any) -> bool:
    """Whether `node` is a leaf that reads files, whose `relation().location()` lists them."""
    return kind(node) == "LogicalRelation" and kind(node.relation()) == "HadoopFsRelation"


def nodes(plan: Any, view: str | None = None) -> Iterator[Any]:
    """All nodes of `plan`, including those of subqueries; only those above the temporary view named `view`, if any."""
    if view is not None and is_view(plan, view):
        return
    yield plan
    for below in (*items(plan.children()), *items(plan.subqueries())):
        yield from nodes(below, view)


def enough_partitions(frame: DataFrame) -> int:
    """How many partitions to use for a shuffle of counts over `frame`; at most `spark.sql.shuffle.partitions`.

    One for each split that Spark reads is enough: a split yields few counts, and each split writes a block for every
    partition.
    """
    spark = frame.sparkSession
    splits = int(frame._jdf.queryExecution().optimizedPlan().stats().sizeInBytes()) // BYTES_OF_SPLIT + 1
    return min(
        int(str(spark.conf.get("spark.sql.shuffle.partitions"))), max(spark.sparkContext.defaultParallelism, splits)
    )


def filters_rows(frame: DataFrame, view: str) -> bool:
    """Whether `frame` may use fewer rows than the source has."""
    return any(kind(node) in _FILTERS | _PICKING for node in nodes(analysed(frame), view))


def is_stable(frame: DataFrame, view: str) -> bool:
    """Whether `frame`, a query over the temporary view `view`, returns the same rows each time it runs over it.

    Windows count as unstable: rows that tie may be numbered in any order.
    """
    above = list(nodes(analysed(frame), view))
    fixed = all(expression.deterministic() for node in above for expression in items(node.expressions()))
    return fixed and not any(kind(node) in _PICKING | {"Window"} for node in above)
