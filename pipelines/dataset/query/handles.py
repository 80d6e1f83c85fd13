"""What a query does with handles: whether it passes them on, or computes something that only the bytes can tell.

Handles stand for bytes, so an expression that reads a handle's fields would compute on the wrong thing. Spark's type
check already refuses functions of bytes; the checks here catch comparing, hashing, casting and grouping. Equal bytes in
two rows, or in two columns of a row, have different handles. So a query may compare handles only beside the key of
their row, which decides the comparison.
"""

from collections.abc import Iterator
from typing import Any

from pyspark.sql import DataFrame

from headrace.dataset.query.media import HANDLE
from headrace.dataset.query.origins import Origins
from headrace.dataset.query.plan import analysed, items, kind, nodes

_HANDLE = HANDLE.simpleString()
# Expressions that pass a value on without reading it.
_CARRIERS = """
    Alias AttributeReference OuterReference KnownNotNull AssertNotNull ScalarSubquery LateralSubquery
    IsNull IsNotNull Coalesce Nvl If CaseWhen
    CreateNamedStruct CreateArray CreateMap GetStructField GetArrayStructFields GetArrayItem GetMapValue ElementAt Get
    Explode PosExplode Inline Stack GeneratorOuter
    Size Cardinality Slice Reverse Concat Flatten ArraysZip ArrayRepeat MapKeys MapValues MapEntries MapFromEntries
    ArrayTransform ArrayFilter ArrayExists ArrayForAll TransformValues MapFilter LambdaFunction NamedLambdaVariable
    AggregateExpression First Last AnyValue CollectList FirstValue LastValue NthValue Lead Lag WindowExpression
"""
CARRIERS = frozenset(_CARRIERS.split())
# Nodes that pass rows on. What they compute is in their expressions.
_CARRYING_NODES = """
    Project Filter Join LateralJoin Aggregate Generate Expand Union Window Sort SubqueryAlias View WithCTE
    CTERelationDef GlobalLimit LocalLimit Offset Sample Repartition RepartitionByExpression RebalancePartitions
    ResolvedHint
"""
CARRYING_NODES = frozenset(_CARRYING_NODES.split())
# Expressions whose result depends on whether a handle is null.
_NULL_SENSITIVE = frozenset(["IsNull", "IsNotNull", "Coalesce", "Nvl", "AtLeastNNonNulls", "CollectList"])
_NULL_SKIPPING = frozenset(["First", "Last", "AnyValue", "NthValue", "Lead", "Lag"])
# Expressions that have no type.
_WITHOUT_TYPE = ("WindowSpecDefinition", "SpecifiedWindowFrame", "UnspecifiedFrame")
# Nodes that may bring media of different source rows together in one row.
_MIXERS = frozenset({"Join", "Aggregate", "Window", "Intersect", "Except", "LateralJoin", "Deduplicate"})


def computes_on_media(frame: DataFrame, view: str, key: str) -> str | None:
    """What in the query computes on handles, in words, or None if nothing does. `key` is the view's unique column."""
    root = analysed(frame)
    origins = Origins(root, view, key)
    for node in nodes(root, view):
        if (found := _compares(node, origins)) is not None:
            return f"{found} compares media"
        for expression in items(node.expressions()):
            if (found := _computes_on_handle(expression)) is not None:
                return f"{found} computes on media"
    return None


def _compares(node: Any, origins: Origins) -> str | None:
    """What in `node` compares handles in a way that may differ from comparing bytes, in words, or None.

    Rows of one key have the same media, so groups by the key and its media are right.
    """
    name, children = kind(node), items(node.children())
    if name == "Aggregate":
        compared, words = items(node.groupingExpressions()), "GROUP BY"
    elif name == "Distinct":
        compared, words = items(node.output()), "DISTINCT"
    elif name in CARRYING_NODES:
        return None
    else:
        found = any(_any_handle(items(child.output())) for child in children)
        return name.upper() if found else None
    media = [expression for expression in compared if _holds_handle(expression)]
    return None if not media or origins.decided_by_key(media, compared, children[0]) else words


def depends_on_null_media(frame: DataFrame, view: str) -> bool:
    """Whether the query computes anything from which media are null, beyond passing the nulls on."""
    return any(_depends_on_null(expression) for expression in _expressions(frame, view))


def _depends_on_null(expression: Any) -> bool:
    name = kind(expression)
    skips = name in _NULL_SKIPPING and expression.ignoreNulls()
    return (skips or name in _NULL_SENSITIVE) and _any_handle(items(expression.children()))


def mixes_rows(frame: DataFrame, view: str) -> bool:
    """Whether media of several source rows may end up in one row of `frame`."""
    return any(kind(node) in _MIXERS for node in nodes(analysed(frame), view)) or any(
        kind(expression) == "ScalarSubquery" and _holds_handle(expression) for expression in _expressions(frame, view)
    )


def _expressions(frame: DataFrame, view: str) -> Iterator[Any]:
    """All expressions of all nodes above the view."""
    for node in nodes(analysed(frame), view):
        for expression in items(node.expressions()):
            yield from _within(expression)


def _within(expression: Any) -> Iterator[Any]:
    yield expression
    for child in items(expression.children()):
        yield from _within(child)


def _computes_on_handle(expression: Any) -> str | None:
    """What in `expression` computes on a handle, in words, or None."""
    for inner in _within(expression):
        name, children = kind(inner), items(inner.children())
        casts = name == "Cast" and _holds_handle(inner)
        if name not in CARRIERS and not casts and _any_handle(children):
            return str(inner.prettyName())
        if name == "AggregateExpression" and inner.isDistinct() and _any_handle(children):
            return "DISTINCT"
        if name == "GetStructField" and children[0].dataType().catalogString() == _HANDLE:
            return "field access"
        if name in {"CreateMap", "MapFromEntries"} and _HANDLE in inner.dataType().keyType().catalogString():
            return "a map's key"
    return None


def _any_handle(expressions: list[Any]) -> bool:
    return any(_holds_handle(expression) for expression in expressions)


def _holds_handle(expression: Any) -> bool:
    if kind(expression).startswith(_WITHOUT_TYPE):
        return False
    # Spark's simpleString leaves out the fields of a wide struct; catalogString has them all.
    return bool(expression.resolved()) and _HANDLE in expression.dataType().catalogString()
