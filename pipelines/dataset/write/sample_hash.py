"""The hash that a sample's id is made from: a function of the values in its row, and of nothing else.

Spark's xxhash64 skips nulls, so ('x', NULL) and (NULL, 'x') are the same to it, and so are ['x'] and ['x', NULL]. It
rejects maps, and it takes strings for equal where a collation does. Here a flag before each value says whether it is
null, an array has its length and the places of its nulls before it, and a map is the sorted hashes of its entries. No
part of this depends on a setting of the session.
"""

from collections.abc import Sequence

from pyspark.sql import Column
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, DataType, MapType, StringType, StructType

from headrace.dataset.query.media import is_handle


def sample_hash(values: Sequence[tuple[Column, DataType]]) -> Column:
    """The 64-bit hash of `values`, each a column and its type."""
    return F.xxhash64(*(part for value, data_type in values for part in _parts(value, data_type)))


def _parts(value: Column, data_type: DataType) -> list[Column]:
    """Columns that Spark hashes the same only where `value` is the same."""
    if is_handle(data_type):  # the order is left out: a sample's id must not depend on placement
        return [value.isNull(), *(value.getField(name) for name in ("__row", "__slot", "__element"))]
    if isinstance(data_type, StructType):
        fields = (_parts(value.getField(field.name), field.dataType) for field in data_type.fields)
        return [value.isNull(), *(part for parts in fields for part in parts)]
    if isinstance(data_type, ArrayType):
        return [_length(value), *_elements(value, data_type.elementType)]
    if isinstance(data_type, MapType):
        key_type, value_type = data_type.keyType, data_type.valueType
        entries = F.transform(
            F.map_entries(value),
            lambda e: sample_hash([(e.getField("key"), key_type), (e.getField("value"), value_type)]),
        )
        return [_length(value), F.sort_array(entries)]
    if isinstance(data_type, StringType) and data_type != StringType():  # a collation
        value = value.cast(StringType())
    return [value.isNull(), value]


def _length(value: Column) -> Column:
    return F.when(value.isNull(), -1).otherwise(F.size(value))


def _elements(array: Column, data_type: DataType) -> list[Column]:
    if isinstance(data_type, ArrayType | MapType | StructType) or (
        isinstance(data_type, StringType) and data_type != StringType()
    ):
        return [F.transform(array, lambda x: sample_hash([(x, data_type)]))]
    # Spark hashes an array of plain values much faster than the results of a lambda.
    some = F.exists(array, lambda x: x.isNull())
    return [some, F.when(some, F.transform(array, lambda x: x.isNull())), array]
