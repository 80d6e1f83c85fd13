"""The schema of a dataset's table: which types Delta can store, and what the build of one partition may change."""

import json

from deltalake import DeltaTable
from pyspark.sql.types import (
    ArrayType,
    BinaryType,
    BooleanType,
    ByteType,
    CharType,
    DataType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    MapType,
    ShortType,
    StringType,
    StructField,
    StructType,
    TimestampNTZType,
    TimestampType,
    UserDefinedType,
    VarcharType,
)

from headrace.dataset.partitions import Partition
from headrace.errors import RecipeError

_NUMBERS = (ByteType, ShortType, IntegerType, LongType, FloatType, DoubleType, DecimalType)
_PLAIN = (*_NUMBERS, BooleanType, BinaryType, DateType, TimestampType, TimestampNTZType)
_TEXT = (StringType, CharType, VarcharType)


def stored(schema: StructType) -> StructType:
    """`schema` as the table has it: every value may be null, and text has neither a length nor a collation.

    Raises RecipeError for a column that Delta cannot store.
    """
    fields = []
    for field in schema.fields:
        kind = _stored(field.dataType)
        if kind is None:
            found = field.dataType.simpleString()
            raise RecipeError(
                f"dataset.query: found column {field.name!r} of type {found}, expected one that Delta can store"
            )
        fields.append(StructField(field.name, kind))
    return StructType(fields)


def merged(root: str, table: DeltaTable, schema: StructType, partition: Partition) -> StructType:
    """The schema of the `table` at `root` once `partition` (name, value) has columns as in `schema`.

    A new column comes last and is null in the other partitions. A column that `schema` lacks stays, and is null in this
    partition. If the table has no other partition, its schema becomes `schema`. Raises RecipeError for a column whose
    type differs: files of both types cannot be read as one table.
    """
    name, value = partition
    if all((there[name] or None) == value for there in table.partitions()):
        return schema
    before = StructType.fromJson(json.loads(table.schema().to_json()))
    kept = [StructField(f.name, _stored(f.dataType) or f.dataType, True, f.metadata) for f in before.fields]
    names = {field.name.lower(): field for field in kept}
    for field in schema.fields:
        known = names.get(field.name.lower(), field)
        if (known.name, known.dataType) != (field.name, field.dataType):
            raise RecipeError(
                f"dataset.query: found column {field.name!r} of type {field.dataType.simpleString()}, expected "
                f"{known.name!r} of type {known.dataType.simpleString()} as in other partitions of {root!r}; "
                "build without a partition to change the whole table"
            )
    return StructType([*kept, *(field for field in schema.fields if field.name.lower() not in names)])


def holds_timestamp_ntz(data_type: DataType) -> bool:
    """Whether `data_type` is or contains TIMESTAMP_NTZ, which a table needs a Delta feature for."""
    if isinstance(data_type, StructType):
        return any(holds_timestamp_ntz(field.dataType) for field in data_type.fields)
    if isinstance(data_type, ArrayType):
        return holds_timestamp_ntz(data_type.elementType)
    if isinstance(data_type, MapType):
        return holds_timestamp_ntz(data_type.keyType) or holds_timestamp_ntz(data_type.valueType)
    return isinstance(data_type, TimestampNTZType)


def _stored(data_type: DataType) -> DataType | None:
    """`data_type` as the table has it, or None if Delta cannot store it."""
    if isinstance(data_type, UserDefinedType):
        data_type = data_type.sqlType()
    if isinstance(data_type, _TEXT):
        return StringType()
    if isinstance(data_type, ArrayType):
        element = _stored(data_type.elementType)
        return None if element is None else ArrayType(element)
    if isinstance(data_type, MapType):
        key, value = _stored(data_type.keyType), _stored(data_type.valueType)
        return None if key is None or value is None else MapType(key, value)
    if isinstance(data_type, StructType):
        fields = [StructField(f.name, kind) for f in data_type.fields if (kind := _stored(f.dataType)) is not None]
        names = {field.name.lower() for field in fields}
        return StructType(fields) if fields and len(names) == len(data_type.fields) else None
    return data_type if isinstance(data_type, _PLAIN) else None
