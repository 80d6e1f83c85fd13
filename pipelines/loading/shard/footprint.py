"""How many bytes of memory the shards of a dataset take, told from the footer of one of them before any is read."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.parquet as pq

from headrace.errors import DataError, Unavailable
from headrace.loading.shard.columns import Numbers
from headrace.loading.shard.read import Selection, footer
from headrace.loading.table.plan import Plan

_TRIED = 3
_IN_PLACE, _IN_MEMORY = 24, 16
"""bytes for each row of a column of images: numbers, and for those in their file also offsets and lengths"""
_GROUPED = 40
"""bytes for each row where one row of each image is a sample"""


@dataclass(frozen=True)
class _Column:
    """What a footer says of a column: bytes of its values when decoded, and how many there are."""

    nbytes: int
    values: int
    plain: bool
    """whether it is stored without compression, as one value a row"""


class Footprint:
    """The memory that shards take, for each byte of their files and for each row."""

    def __init__(self, metadata: pq.FileMetaData | None, size: int, plan: Plan, selection: Selection) -> None:
        """`metadata` is the footer of a file of `size` bytes. Without one, memory is as large as the files."""
        self._rows = max(1, metadata.num_rows) if metadata else int(plan.rows.sum())
        self._size = max(1, size) if metadata else int(plan.sizes.sum())
        self._known = metadata is not None
        self._columns = {name: _column(metadata, name) for name in selection.columns} if metadata else {}
        self._selection = selection
        self._may_stay = plan.place.is_local or plan.place.cache is not None

    def growth(self, in_place: bool) -> float:
        """The bytes that an open shard takes for each byte of its file.

        `in_place`: what can be used in place stays in the file.
        """
        if not self._known:
            return 1.0
        selection, stay = self._selection, in_place and self._may_stay
        held = 0
        for name in selection.media:
            column = self._columns[name]
            held += self._rows * _IN_PLACE if stay and column.plain else column.nbytes + self._rows * _IN_MEMORY
        for field in selection.fields.values():
            column = self._columns[field.column]
            fixed = isinstance(field.kind, Numbers) and field.kind.of_bytes
            if not (stay and column.plain and fixed):
                held += field.kind.expected(self._rows, column.values, column.nbytes)
        held += self._rows * ((8 if selection.sample_id else 0) + (_GROUPED if selection.image_key else 0))
        return held / self._size

    def row(self) -> float:
        """The bytes that a row takes in a batch, without its decoded images."""
        if not self._known:
            return self._size / self._rows
        found = [(field.kind, self._columns[field.column]) for field in self._selection.fields.values()]
        return sum(kind.expected(self._rows, one.values, one.nbytes) for kind, one in found) / self._rows


def largest(plan: Plan) -> tuple[pq.FileMetaData | None, int]:
    """The footer of the largest file, or of the next one that can be read, and the file's size; (None, 0) if none can.

    Raises Unavailable.
    """
    for number in plan.sizes.argsort(kind="stable")[::-1][:_TRIED].tolist():
        try:
            return footer(plan, number), int(plan.sizes[number])
        except Unavailable:
            raise
        except DataError:
            continue
    return None, 0


def _column(metadata: pq.FileMetaData, name: str) -> _Column:
    nbytes = values = leaves = 0
    plain = True
    for number in range(metadata.num_columns):
        leaf = metadata.schema.column(number)
        if leaf.path != name and not leaf.path.startswith(f"{name}."):
            continue
        leaves += 1
        for group in range(metadata.num_row_groups):
            chunk = metadata.row_group(group).column(number)
            nbytes += max(0, chunk.total_uncompressed_size)
            values += max(0, chunk.num_values)
            plain = plain and chunk.compression == "UNCOMPRESSED" and not leaf.max_repetition_level
    return _Column(nbytes, values, plain and leaves > 0)
