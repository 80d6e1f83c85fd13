"""The bytes of media in a row, estimated from the footers of the source's Parquet files; nothing else is read."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame

from headrace.dataset.query.media import ITEM, Leaf
from headrace.dataset.storage import filesystem
from headrace.files import local_path

# How many footers to read at most, about, spread evenly over the files in the order of their names.
SAMPLED_FILES = 32
# The length prefix of a value in a plain page.
LENGTH_BYTES = 4


def bytes_a_row(source: DataFrame, leaves: Sequence[Leaf]) -> Mapping[int, float] | None:
    """The mean bytes of media in a row, by slot; None if the source's files do not tell."""
    uris = sorted(source.inputFiles())
    if not uris or not all(uri.endswith((".parquet", ".parq")) for uri in uris[:1]):
        return None
    rows, sizes = 0, dict.fromkeys((leaf.slot for leaf in leaves), 0)
    for uri in uris[:: -(-len(uris) // SAMPLED_FILES)]:
        try:
            footer = _footer(uri)
        except (OSError, pa.ArrowInvalid):
            return None
        columns = {leaf.slot: _columns(footer, leaf) for leaf in leaves}
        if any(len(found) != 1 for found in columns.values()):
            return None
        rows += footer.num_rows
        for group in range(footer.num_row_groups):
            for slot, (column,) in columns.items():
                chunk = footer.row_group(group).column(column)
                sizes[slot] += max(0, chunk.total_uncompressed_size - LENGTH_BYTES * chunk.num_values)
    return {slot: size / rows for slot, size in sizes.items()} if rows else None


def _footer(uri: str) -> pq.FileMetaData:
    files, path = filesystem(str(local_path(uri) or uri))
    with files.open_input_file(path) as file:
        return pq.ParquetFile(file).metadata


def _columns(footer: pq.FileMetaData, leaf: Leaf) -> list[int]:
    """The numbers of the file's byte columns that match `leaf`. Lists and maps add names of their own to the path."""
    names = [part for part in leaf.path if part != ITEM]
    found = []
    for number in range(footer.num_columns):
        column = footer.schema.column(number)
        parts = column.path.split(".")
        rest = iter(parts)
        in_order = parts[0] == names[0] and all(name in rest for name in names)
        ends = parts[-1] == names[-1] if leaf.path[-1] != ITEM else parts[-1] != "key"
        if column.physical_type == "BYTE_ARRAY" and in_order and ends:
            found.append(number)
    return found
