"""Media by reference: which columns hold bytes, the handles that replace them in a query, and the bytes to ship.

A leaf is one place in the source's schema that holds bytes: a binary column, or a binary field inside structs, one
array, or the values of one map. A handle identifies one media value by its row (a hash of the key), the row's place in
the order (see `placement`), its slot (the leaf's ordinal) and its element (the index in the array or map; 0 elsewhere).
Handles are structs, so Spark's analysis rejects functions of bytes instead of running them on the wrong thing.

To find out whether a media value is null, its bytes must be read. `blind` handles stand for null media too; the write
stage, which has the bytes anyway, turns those back into null. A query that does not depend on null thus reads no bytes.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, DataType, IntegerType, LongType, MapType, StructField, StructType

from headrace.dataset.session import conf
from headrace.errors import RecipeError

HANDLE = StructType(
    [
        StructField("__row", LongType(), False),
        StructField("__order", LongType(), False),
        StructField("__slot", IntegerType(), False),
        StructField("__element", IntegerType(), False),
    ]
)
ITEM = "[]"
Path = tuple[str, ...]


@dataclass(frozen=True)
class Leaf:
    """A place in the schema that holds bytes. `path` has the field names, and `[]` for the items of an array or map."""

    slot: int
    path: Path

    @property
    def repeated(self) -> bool:
        return ITEM in self.path

    @property
    def name(self) -> str:
        return name_of(self.path)


def find_leaves(schema: StructType, only: Sequence[str] | None = None) -> tuple[Leaf, ...]:
    """The leaves of `schema`, or only those in `only`, named like `image` or `conditions.image`.

    Raises RecipeError for a name that is not a binary column, and for bytes inside two arrays or maps.
    """
    paths = list(binary_paths(schema))
    names = {name_of(path): path for path in paths}
    if only is not None:
        for name in only:
            if name not in names:
                raise RecipeError(
                    f"dataset.source.media: found {name!r}, expected binary columns of the source: "
                    f"{', '.join(names) or 'it has none'}"
                )
        paths = [names[name] for name in names if name in set(only)]
    for path in paths:
        if path.count(ITEM) > 1:
            raise RecipeError(
                f"dataset.source: found bytes inside two arrays or maps at {name_of(path)!r}, expected one at most; "
                "name the media columns in dataset.source.media or explode it in a view first"
            )
    return tuple(Leaf(slot, path) for slot, path in enumerate(paths))


def name_of(path: Path) -> str:
    """The name of a place in a schema, as in `conditions.image`."""
    return ".".join(part for part in path if part != ITEM)


def places(data_type: DataType, path: Path = ()) -> Iterator[tuple[Path, DataType]]:
    """`path` and the places at any depth of `data_type`, as in `Leaf.path`, each with its type."""
    yield path, data_type
    if isinstance(data_type, StructType):
        for field in data_type.fields:
            yield from places(field.dataType, (*path, field.name))
    elif isinstance(data_type, ArrayType):
        yield from places(data_type.elementType, (*path, ITEM))
    elif isinstance(data_type, MapType):
        yield from places(data_type.valueType, (*path, ITEM))


def binary_paths(data_type: DataType) -> Iterator[Path]:
    """The places in a type that hold bytes, as in `Leaf.path`."""
    return (path for path, held in places(data_type) if isinstance(held, BinaryType))


def bytes_column(leaf: Leaf, schema: StructType) -> Column:
    """The bytes at `leaf`: binary, or array<binary> if it is repeated."""
    head, *rest = leaf.path
    return _bytes_at(F.col(quoted(head)), schema[head].dataType, rest)


def _bytes_at(value: Column, data_type: DataType, rest: Sequence[str]) -> Column:
    if not rest:
        return value
    head, *tail = rest
    if isinstance(data_type, StructType):
        return _bytes_at(value.getField(head), data_type[head].dataType, tail)
    if isinstance(data_type, ArrayType):
        element_type = data_type.elementType
        return F.transform(value, lambda x: _bytes_at(x, element_type, tail)) if tail else value
    assert isinstance(data_type, MapType)
    values, value_type = F.map_values(value), data_type.valueType
    return F.transform(values, lambda x: _bytes_at(x, value_type, tail)) if tail else values


def is_handle(data_type: DataType) -> bool:
    """Whether `data_type` is the type of a handle."""
    return isinstance(data_type, StructType) and data_type.fieldNames() == HANDLE.fieldNames()


def holds_handle(data_type: DataType) -> bool:
    """Whether `data_type` contains a handle at any depth."""
    if isinstance(data_type, StructType):
        return is_handle(data_type) or any(holds_handle(field.dataType) for field in data_type.fields)
    if isinstance(data_type, ArrayType):
        return holds_handle(data_type.elementType)
    if isinstance(data_type, MapType):
        return holds_handle(data_type.keyType) or holds_handle(data_type.valueType)
    return False


def used_leaves(samples: DataFrame, leaves: Sequence[Leaf]) -> tuple[Leaf, ...]:
    """The leaves whose handles are still in the plan of `samples` after Spark has pruned it."""
    plan = optimized_plan(samples)
    if "LocalRelation" in plan:  # rows stored in the plan itself have been evaluated already
        return tuple(leaves)
    slots = {int(slot) for slot in re.findall(r"__slot, (\d+)", plan)}
    return tuple(leaf for leaf in leaves if leaf.slot in slots)


def optimized_plan(frame: DataFrame) -> str:
    """Spark's optimized plan of `frame` as text, without truncated fields."""
    with conf(frame.sparkSession, {"spark.sql.debug.maxToStringFields": "100000"}):
        return frame._jdf.queryExecution().optimizedPlan().toString()


def quoted(name: str) -> str:
    """`name` as a SQL identifier."""
    return "`" + name.replace("`", "``") + "`"
