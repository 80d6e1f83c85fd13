"""Arrays and maps to rows, from Python: a frame, and the HiveQL that it stands for."""

import uuid
from collections.abc import Mapping, Sequence

from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, DataType, MapType, StructType

from headrace.dataset.query.media import quoted
from headrace.errors import RecipeError


def flatten(
    df: DataFrame, arrays: Mapping[str, str], outer: bool = False, zipped: bool = False, position: bool = False
) -> DataFrame:
    """`df` with a row for each element of the columns that `arrays` names, in the place of those columns.

    `arrays` maps a column to the name of its elements. An array of structs gives `name_field` for each field, a map
    `name_key` and `name_value`, any other array `name`. Several columns are crossed, or taken side by side if
    `zipped` (arrays only; shorter ones are padded with null, null ones count as empty). `outer` keeps rows that have no
    element, with null; `position` adds `name_position` from 0, when zipped just `position`.
    Raises RecipeError for a column that is not there or is no array or map, and for a name that is taken.
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
    """The HiveQL of `flatten` over a table of that schema."""
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
    """A lateral view for each column, and the values to select with their names."""
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
    """One lateral view over all columns side by side, and the values to select with their names."""
    padded = ", ".join(f"coalesce(s.{quoted(column)}, array())" for column in arrays)
    views = [f"LATERAL VIEW {outer}posexplode(arrays_zip({padded})) t AS position, item"]
    made = [("t.position", "position")] if position else []
    for number, (column, name) in enumerate(arrays.items()):
        made += _values(f"t.item.`{number}`", schema[column].dataType, name)
    return views, made


def _values(item: str, data_type: DataType, name: str) -> list[tuple[str, str]]:
    """The element itself, or the fields of an element that is a struct."""
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
            expected = "an array, to be zipped" if zipped else "an array or a map"
            raise RecipeError(f"arrays: found {column!r} of type {found.simpleString()}, expected {expected}")


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if sum(other.lower() == name.lower() for other in names) > 1:
            raise RecipeError(f"arrays: found the name {name!r} for two columns, expected a name for each")
