"""The view that a query runs over: the source with a handle in place of every media value."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, BinaryType, DataType, MapType, NumericType, StructType

from headrace.dataset.query.media import ITEM, Leaf, Path, quoted
from headrace.dataset.query.placement import Rows


def by_reference(
    source: DataFrame, leaves: Sequence[Leaf], rows: Rows, blind: bool = False, used: Collection[Path] | None = None
) -> DataFrame:
    """`source` with a handle in place of every leaf's bytes.

    Null stays null, unless the handles are `blind`. Then, of structs that hold media, only the fields in `used` are
    read, and the others are null. `used` has the paths of what the query uses (None: it may use anything).
    """
    maker = _Maker({leaf.path: leaf.slot for leaf in leaves}, rows, blind, used)
    return source.select(
        *(
            maker.made(F.col(quoted(field.name)), field.dataType, (field.name,), F.lit(0)).alias(field.name)
            for field in source.schema.fields
        )
    )


@dataclass(frozen=True)
class _Maker:
    slots: dict[Path, int]
    rows: Rows
    blind: bool
    used: Collection[Path] | None

    def made(self, value: Column, data_type: DataType, path: Path, element: Column) -> Column:
        """`value`, found at `path` of the source, with handles in place of media."""
        if not self._holds(path):
            unused = self.blind and len(path) > 1 and not self._uses(path)
            return F.lit(None).cast(data_type) if unused else value
        if isinstance(data_type, BinaryType):
            handle = self._handle(path, element)
            if self.blind and not self._uses(path):  # it is never made, so its bytes are never shipped
                return F.when(F.lit(False), handle)
            return handle if self.blind else F.when(value.isNotNull(), handle)
        if isinstance(data_type, StructType):
            made = F.struct(
                *(
                    self.made(value.getField(f.name), f.dataType, (*path, f.name), element).alias(f.name)
                    for f in data_type.fields
                )
            )
            return made if self.blind else F.when(value.isNotNull(), made)
        item = (*path, ITEM)
        if isinstance(data_type, ArrayType):
            element_type = data_type.elementType
            pruned = self._pruned(value, element_type, item) if isinstance(element_type, StructType) else None
            if self.blind and pruned is not None:
                return pruned
            return F.transform(value, lambda x, i: self.made(x, element_type, item, i))
        assert isinstance(data_type, MapType)
        value_type = data_type.valueType
        return F.map_from_entries(
            F.transform(
                F.map_entries(value),
                lambda e, i: F.struct(
                    e.getField("key").alias("key"),
                    self.made(e.getField("value"), value_type, item, i).alias("value"),
                ),
            )
        )

    def _holds(self, path: Path) -> bool:
        return any(leaf[: len(path)] == path for leaf in self.slots)

    def _uses(self, path: Path) -> bool:
        return self.used is None or path in self.used

    def _handle(self, path: Path, element: Column) -> Column:
        return F.struct(
            self.rows.row.alias("__row"),
            self.rows.order.alias("__order"),
            F.lit(self.slots[path]).alias("__slot"),
            element.alias("__element"),
        )

    def _pruned(self, array: Column, data_type: StructType, item: Path) -> Column | None:
        """The array rebuilt from the used fields of its elements, so that no media are read.

        None if every field of the elements holds media: then only the bytes tell how many elements there are.
        """
        plain = list(self._plain(data_type, item, ()))
        if not plain:
            return None
        used = [path for path, _ in plain if self._uses((*item, *path))]
        if not used:
            used = [min(plain, key=lambda p: (not isinstance(p[1], NumericType), len(p[0])))[0]]
        columns = []
        for number, path in enumerate(used):
            column = array
            for name in path:
                column = column.getField(name)
            columns.append(column.alias(f"f{number}"))
        values = {path: f"f{number}" for number, path in enumerate(used)}
        zipped = (
            F.arrays_zip(*columns) if len(columns) > 1 else F.transform(columns[0], lambda x: F.struct(x.alias("f0")))
        )
        return F.transform(zipped, lambda z, i: self._rebuilt(z, data_type, item, (), values, i))

    def _plain(self, data_type: StructType, item: Path, path: Path):
        """The fields of an element that hold no media, at any depth of structs, with their types."""
        for field in data_type.fields:
            here = (*path, field.name)
            if not self._holds((*item, *here)):
                yield here, field.dataType
            elif isinstance(field.dataType, StructType):
                yield from self._plain(field.dataType, item, here)

    def _rebuilt(
        self, zipped: Column, data_type: StructType, item: Path, path: Path, values: dict[Path, str], element: Column
    ) -> Column:
        fields = []
        for field in data_type.fields:
            here = (*path, field.name)
            if here in values:
                made = zipped.getField(values[here])
            elif not self._holds((*item, *here)):
                made = F.lit(None).cast(field.dataType)
            elif isinstance(field.dataType, StructType):
                made = self._rebuilt(zipped, field.dataType, item, here, values, element)
            else:
                made = self.made(F.lit(None).cast(field.dataType), field.dataType, (*item, *here), element)
            fields.append(made.alias(field.name))
        return F.struct(*fields)
