"""Arrays and maps of a frame exploded into rows, and the HiveQL that does it."""

import uuid
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, DataType, MapType, StructType

from headrace.dataset.query.media import quoted
from headrace.errors import RecipeError


def flatten(
    df: DataFrame, arrays: Mapping[str, str], outer: bool = False, zipped: bool = False, position: bool = False
) -> DataFrame:
    """`df` with one row for each element of the columns in `arrays`; the elements replace those columns.

    `arrays` maps each column to a name for its elements. The new columns come last: `name` for an array, `name_field`
    for each field if its elements are structs, `name_key` and `name_value` for a map. Several columns are crossed, with
    a row for each combination of their elements. `zipped` takes their elements side by side instead (arrays only);
    shorter arrays are padded with null, and a null array counts as empty. `outer` keeps rows without any element, with
    null in the new columns. `position` adds `name_position`, counted from 0; zipped columns share one called
    `position`.

    Raises RecipeError if `arrays` is empty or names a column that does not exist or is neither an array nor a map, or
    if two columns of the result would have the same name.
    """
    view = f"headrace_flatten_{uuid.uuid4().hex}"
    sql = flatten_sql(df.schema, arrays, outer=outer, zipped=zipped, position=position, table=view)
    df.createOrReplaceTempView(view)
    try:
        return df.sparkSession.sql(sql)
    finally:
        df.sparkSession.catalog.dropTempView(view)


def flatten_sql(
    schema: StructType,
    arrays: Mapping[str, str],
    outer: bool = False,
    zipped: bool = False,
    position: bool = False,
    table: str = "source",
) -> str:
    """The HiveQL that `flatten` runs, for a table or view `table` of this schema. Takes and raises the same."""
    _check(schema, arrays, zipped)
    views, made = (_zipped if zipped else _crossed)(schema, arrays, "OUTER " if outer else "", position)
    kept = [(f"s.{quoted(name)}", name) for name in schema.fieldNames() if name not in arrays]
    _check_names([name for _, name in [*kept, *made]])
    columns = ",\n  ".join(
        value if value.endswith("." + quoted(name)) else f"{value} AS {quoted(name)}" for value, name in [*kept, *made]
    )
    return "\n".join([f"SELECT\n  {columns}", f"FROM {quoted(table)} s", *views])


def _crossed(
    schema: StructType, arrays: Mapping[str, str], outer: str, position: bool
) -> tuple[list[str], list[tuple[str, str]]]:
    """A lateral view for each column, and the (expression, name) pairs to select."""
    views, made = [], []
    for number, (column, name) in enumerate(arrays.items()):
        view, data_type = f"t{number}", schema[column].dataType
        items = ["key", "value"] if isinstance(data_type, MapType) else ["item"]
        names = ["position", *items] if position else items
        function = "posexplode" if position else "explode"
        views.append(f"LATERAL VIEW {outer}{function}(s.{quoted(column)}) {view} AS {', '.join(names)}")
        if position:
            made.append((f"{view}.position", f"{name}_position"))
        if isinstance(data_type, MapType):
            made += [(f"{view}.key", f"{name}_key"), (f"{view}.value", f"{name}_value")]
        else:
            made += _values(f"{view}.item", data_type, name)
    return views, made


def _zipped(
    schema: StructType, arrays: Mapping[str, str], outer: str, position: bool
) -> tuple[list[str], list[tuple[str, str]]]:
    """One lateral view over all columns side by side, and the (expression, name) pairs to select."""
    padded = ", ".join(f"coalesce(s.{quoted(column)}, array())" for column in arrays)
    views = [f"LATERAL VIEW {outer}posexplode(arrays_zip({padded})) t AS position, item"]
    made = [("t.position", "position")] if position else []
    for number, (column, name) in enumerate(arrays.items()):
        made += _values(f"t.item.`{number}`", schema[column].dataType, name)
    return views, made


def _values(item: str, data_type: DataType, name: str) -> list[tuple[str, str]]:
    """The (expression, name) of an element, or of each field if it is a struct."""
    assert isinstance(data_type, ArrayType)
    if not isinstance(data_type.elementType, StructType):
        return [(item, name)]
    return [(f"{item}.{quoted(field)}", f"{name}_{field}") for field in data_type.elementType.fieldNames()]


def _check(schema: StructType, arrays: Mapping[str, str], zipped: bool) -> None:
    if not arrays:
        raise RecipeError("arrays: found none, expected a column to flatten")
    for column in arrays:
        if column not in schema.fieldNames():
            raise RecipeError(f"arrays: found {column!r}, expected a column among {', '.join(schema.fieldNames())}")
        found = schema[column].dataType
        wanted = (ArrayType,) if zipped else (ArrayType, MapType)
        if not isinstance(found, wanted):
            expected = "an array, because zipped=True" if zipped else "an array or a map"
            raise RecipeError(f"arrays: found {column!r} of type {found.simpleString()}, expected {expected}")


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if sum(other.lower() == name.lower() for other in names) > 1:
            raise RecipeError(f"arrays: found the name {name!r} for two columns, expected different names")
