"""Reading Spark's plan of a query: what the query does with handles, which columns it reads, which rows it keeps.

Handles stand for bytes, so an expression that reads a handle's fields would compute on the wrong thing. Spark's type
check already refuses functions of bytes; the checks here catch comparing, hashing, casting and grouping.
"""

import json
from collections.abc import Iterator
from typing import Any

from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, DataType, StructField, StructType

from headrace.dataset.query.media import HANDLE

# Expressions that pass a value on without reading it.
_CARRIERS = """
    Alias AttributeReference OuterReference KnownNotNull AssertNotNull ScalarSubquery
    IsNull IsNotNull Coalesce Nvl If CaseWhen
    CreateNamedStruct CreateArray CreateMap GetStructField GetArrayStructFields GetArrayItem GetMapValue ElementAt Get
    Explode PosExplode Inline Stack GeneratorOuter
    Size Cardinality Slice Reverse Concat Flatten ArraysZip ArrayRepeat MapKeys MapValues MapEntries MapFromEntries
    ArrayTransform ArrayFilter ArrayExists ArrayForAll TransformValues MapFilter LambdaFunction NamedLambdaVariable
    AggregateExpression First Last AnyValue CollectList FirstValue LastValue NthValue Lead Lag WindowExpression
"""
CARRIERS = frozenset(_CARRIERS.split())
# Nodes that compare whole rows.
COMPARERS = frozenset({"Distinct", "Intersect", "Except", "Deduplicate"})
# Expressions whose result depends on whether a handle is null.
_NULL_SENSITIVE = frozenset(["IsNull", "IsNotNull", "Coalesce", "Nvl", "AtLeastNNonNulls", "CollectList"])
# Nodes that may bring media of different source rows together in one row.
MIXERS = frozenset({"Join", "Aggregate", "Window", "Intersect", "Except", "LateralJoin", "Deduplicate"})
# Bytes of a table that one task reads, about: the default of spark.sql.files.maxPartitionBytes.
BYTES_OF_SPLIT = 128 << 20
# Nodes that may drop rows.
FILTERS = frozenset({"Filter", "Join", "Aggregate", "Intersect", "Except", "LateralJoin"})


def analysed(frame: DataFrame) -> Any:
    """The root of the analysed plan, a JVM object."""
    return frame._jdf.queryExecution().analyzed()


def items(scala_seq: Any) -> list[Any]:
    """A Scala sequence as a list."""
    return [scala_seq.apply(i) for i in range(scala_seq.size())]


def kind(node: Any) -> str:
    """The simple class name of a plan node or an expression."""
    return node.getClass().getSimpleName()


def nodes(plan: Any, view: str) -> Iterator[Any]:
    """All nodes of `plan` above the view named `view`, including those of subqueries."""
    if kind(plan) == "SubqueryAlias" and plan.alias() == view:
        return
    yield plan
    for child in items(plan.children()):
        yield from nodes(child, view)
    for expression in items(plan.expressions()):
        for inner in _subqueries(expression):
            yield from nodes(inner, view)


def _subqueries(expression: Any) -> Iterator[Any]:
    if kind(expression) in {"ScalarSubquery", "ListQuery", "Exists", "LateralSubquery"}:
        yield expression.plan()
    for child in items(expression.children()):
        yield from _subqueries(child)


def computes_on_media(frame: DataFrame, view: str, key: str) -> str | None:
    """What in the query computes on handles, in words, or None if nothing does.

    Grouping by media is allowed where the query groups by `key` too: rows of one key have the same media.
    """
    for node in nodes(analysed(frame), view):
        name = kind(node)
        output = items(node.output()) if name in COMPARERS else []
        if _any_handle(output) and key not in {attribute.name() for attribute in output}:
            return f"{name.upper()} compares media"
        if name == "Aggregate":
            groups = items(node.groupingExpressions())
            if _any_handle(groups) and key not in {g.name() for g in groups if kind(g) == "AttributeReference"}:
                return "GROUP BY compares media"
        for expression in items(node.expressions()):
            if (found := _computes_on_handle(expression)) is not None:
                return f"{found} computes on media"
    return None


def depends_on_null_media(frame: DataFrame, view: str) -> bool:
    """Whether the query computes anything from which media are null, beyond passing the nulls on."""
    return any(
        _depends_on_null(expression)
        for node in nodes(analysed(frame), view)
        for expression in items(node.expressions())
    )


def _depends_on_null(expression: Any) -> bool:
    children = items(expression.children())
    skips = kind(expression) in {"First", "Last", "AnyValue", "NthValue", "Lead", "Lag"} and expression.ignoreNulls()
    if (skips or kind(expression) in _NULL_SENSITIVE) and _any_handle(children):
        return True
    return any(_depends_on_null(child) for child in children)


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


def used_columns(frame: DataFrame) -> set[str]:
    """The names of the columns that `frame` reads from its tables after Spark has pruned the plan."""
    plan = frame._jdf.queryExecution().optimizedPlan()
    used = {attribute.exprId().id() for attribute in items(plan.output())}
    leaves = []
    for node in _all(plan):
        if node.children().isEmpty():
            leaves.append(node)
        else:
            used |= {attribute.exprId().id() for attribute in items(node.references().toSeq())}
    return {
        attribute.name() for leaf in leaves for attribute in items(leaf.output()) if attribute.exprId().id() in used
    }


def used_schema(frame: DataFrame, source: DataFrame) -> StructType | None:
    """The part of the schema of `source` that `frame`, a query over it, reads after Spark has pruned the plan.

    None where the plan does not show it.
    """
    wanted = _file_schemas(source, optimized=False)
    found = _file_schemas(frame, optimized=True)
    if len(wanted) != 1:
        return None
    ((location, _),) = wanted
    used: StructType | None = None
    for other, schema in found:
        if other == location:
            used = schema if used is None else _merged(used, schema)
    return used


def _file_schemas(frame: DataFrame, optimized: bool) -> list[tuple[str, StructType]]:
    """The file relations of a plan: the folder of each, and the schema that is read from it."""
    execution = frame._jdf.queryExecution()
    plan = execution.optimizedPlan() if optimized else execution.analyzed()
    relations = (node for node in _all(plan) if kind(node) == "LogicalRelation")
    return [
        (node.relation().location().rootPaths().toString(), StructType.fromJson(json.loads(node.schema().json())))
        for node in relations
        if kind(node.relation()) == "HadoopFsRelation"
    ]


def _all(plan: Any) -> Iterator[Any]:
    yield plan
    for child in items(plan.children()):
        yield from _all(child)
    for expression in items(plan.expressions()):
        for inner in _subqueries(expression):
            yield from _all(inner)


def _merged(one: DataType, other: DataType) -> Any:
    """A type that has the fields of both."""
    if isinstance(one, StructType) and isinstance(other, StructType):
        names = [*one.fieldNames(), *(name for name in other.fieldNames() if name not in one.fieldNames())]
        return StructType(
            [
                StructField(name, _merged(one[name].dataType, other[name].dataType))
                if name in one.fieldNames() and name in other.fieldNames()
                else (one[name] if name in one.fieldNames() else other[name])
                for name in names
            ]
        )
    if isinstance(one, ArrayType) and isinstance(other, ArrayType):
        return ArrayType(_merged(one.elementType, other.elementType))
    return one


def _computes_on_handle(expression: Any) -> str | None:
    """What in `expression` computes on a handle, in words, or None."""
    children = items(expression.children())
    if kind(expression) not in CARRIERS and _any_handle(children):
        casts = kind(expression) == "Cast" and _holds_handle(expression)
        if not casts:
            return str(expression.prettyName())
    if kind(expression) == "AggregateExpression" and expression.isDistinct() and _any_handle(children):
        return "DISTINCT"
    if kind(expression) == "GetStructField" and children[0].dataType().simpleString() == HANDLE.simpleString():
        return "field access"
    for child in children:
        if (found := _computes_on_handle(child)) is not None:
            return found
    return None


def _any_handle(expressions: list[Any]) -> bool:
    return any(_holds_handle(expression) for expression in expressions)


def _holds_handle(expression: Any) -> bool:
    if kind(expression).startswith(("SpecifiedWindowFrame", "UnspecifiedFrame")):  # these have no type
        return False
    return bool(expression.resolved()) and HANDLE.simpleString() in expression.dataType().simpleString()


def filters_rows(frame: DataFrame, view: str) -> bool:
    """Whether `frame` may use fewer rows than the source has, and the same ones each time it runs."""
    return is_stable(frame) and any(kind(node) in FILTERS for node in nodes(analysed(frame), view))


def is_stable(frame: DataFrame) -> bool:
    """Whether `frame` returns the same rows each time it runs."""
    return bool(analysed(frame).deterministic())


def mixes_rows(frame: DataFrame, view: str) -> bool:
    """Whether media of several source rows may end up in one row of `frame`."""
    return any(kind(node) in MIXERS for node in nodes(analysed(frame), view))
