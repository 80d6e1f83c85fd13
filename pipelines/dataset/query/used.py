"""Which columns of the source a query uses, and which fields of its structs.

The query is planned over a stand-in: a table without files that has the source's columns. Spark prunes what it reads
from the stand-in, so what is left is what the query uses, whatever the source is: files, a view, or a computed frame.
"""

import json
from collections.abc import Iterator
from typing import Any

from pyspark.sql import SparkSession
from pyspark.sql.types import StructType

from headrace.dataset.query.media import Path, places
from headrace.dataset.query.plan import PASSING, analysed, items, kind, nodes, reads_files


def used_paths(spark: SparkSession, query: str, view: str, schema: StructType) -> frozenset[Path]:
    """The paths of the columns and fields that `query` uses of the source, which it calls `view`.

    `schema` is the source's. A path is like that of a `Leaf`; those of the structs around a used field are included.
    The temporary view `view` is left behind. Raises AnalysisException if the query is wrong, or if Parquet files cannot
    have this schema.
    """
    stand_in = spark.read.schema(schema).parquet()
    stand_in.createOrReplaceTempView(view)
    files = analysed(stand_in).relation().location()
    plan = spark.sql(query)._jdf.queryExecution().optimizedPlan()
    relations, used = [], set(_numbers(plan.output()))
    for node in nodes(plan):
        children, inner = items(node.children()), items(node.subqueries())
        if reads_files(node) and node.relation().location() == files:
            relations.append(node)
        elif children:
            used.update(_numbers(node.references().toSeq()))
        # Other nodes and subqueries use all columns below them, under ids of their own.
        for below in [*inner, *(children if kind(node) not in PASSING else ())]:
            used.update(_numbers(below.output()))
    return frozenset(path for relation in relations for path in _used_of(relation, used))


def _used_of(relation: Any, used: set[int]) -> Iterator[Path]:
    """The paths of what is read from `relation`, of its columns with an id in `used`."""
    schema = StructType.fromJson(json.loads(relation.schema().json()))
    for field, number in zip(schema.fields, _numbers(relation.output()), strict=True):
        if number in used:
            yield from (path for path, _ in places(field.dataType, (field.name,)))


def _numbers(columns: Any) -> list[int]:
    return [column.exprId().id() for column in items(columns)]
