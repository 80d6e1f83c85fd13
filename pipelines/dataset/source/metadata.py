"""The metadata files of a HuggingFace image folder: metadata.jsonl, metadata.csv and metadata.parquet."""

import csv
import json
from collections.abc import Callable
from io import BytesIO, StringIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.dataset.source.account import BAD_FILE, BAD_ROW, NO_JSON, NO_UNICODE, Unusable
from headrace.dataset.source.listing import MAX_BYTES
from headrace.dataset.source.samples import LeftOut
from headrace.dataset.source.sidecars import decode, is_unicode
from headrace.errors import DataError

FILE_NAME = "file_name"
NO_PARQUET = BAD_FILE + "not Parquet"
NO_CSV = BAD_FILE + "not CSV"
RAGGED = BAD_ROW + "metadata with more or fewer values than the header"
NO_OBJECT = BAD_ROW + "metadata that is not a JSON object"


def is_metadata(path: str) -> bool:
    """Whether a file is a metadata file."""
    return path.rpartition("/")[2] in READERS


def read_metadata(path: str, content: bytes) -> tuple[pa.Table, list[LeftOut]]:
    """The rows of a metadata file, and what is wrong with others. Raises Unusable if the file cannot be read.

    Raises DataError if there is no column `file_name`, or if the values of a column have different types.
    """
    table, left_out = READERS[path.rpartition("/")[2]](path, content)
    if FILE_NAME not in table.column_names and table.num_rows:
        raise DataError(
            f"dataset.source.path: found columns {_listed(table.column_names)} in {path}, expected {FILE_NAME!r}"
        )
    return table, left_out


def _of_jsonl(path: str, content: bytes) -> tuple[pa.Table, list[LeftOut]]:
    rows: list[dict[str, Any]] = []
    left_out = []
    for number, line in enumerate(decode(content).split("\n"), 1):
        if not line.strip():
            continue
        try:
            rows.append(_object(line))
        except Unusable as error:
            left_out.append(LeftOut(f"{path}:{number}", str(error)))
    columns = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        try:
            column = pa.array([row.get(name) for row in rows])
        except (pa.ArrowException, OverflowError) as error:
            first = str(error).splitlines()[0]
            raise DataError(
                f"dataset.source.path: found values of different types in column {name!r} of {path}, expected one "
                f"type: {first}"
            ) from None
        columns[name] = column.cast(pa.string()) if pa.types.is_null(column.type) else column
    return pa.table(columns), left_out


def _object(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # nested too deeply
        raise Unusable(NO_JSON) from None
    if not isinstance(row, dict):
        raise Unusable(NO_OBJECT)
    if not is_unicode(json.dumps(row, ensure_ascii=False)):
        raise Unusable(NO_UNICODE)
    return row


def _of_csv(path: str, content: bytes) -> tuple[pa.Table, list[LeftOut]]:
    """CSV has no types, so all columns are strings. An empty field is null."""
    csv.field_size_limit(MAX_BYTES)
    lines = csv.reader(StringIO(decode(content), newline=""), strict=True)
    rows, left_out = [], []
    try:
        names = next((values for values in lines if values), [])
        for values in lines:
            if len(values) == len(names):
                rows.append([value or None for value in values])
            elif values:
                left_out.append(LeftOut(f"{path}:{lines.line_num}", RAGGED))
    except csv.Error:
        raise Unusable(NO_CSV) from None
    if not names:
        raise Unusable(NO_CSV)
    if len(set(names)) < len(names):
        raise DataError(f"dataset.source.path: found columns {_listed(names)} in {path}, expected different names")
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    return pa.table([pa.array(column, pa.string()) for column in columns], names), left_out


def _listed(names: list[str]) -> str:
    return ", ".join(map(repr, names))


def _of_parquet(path: str, content: bytes) -> tuple[pa.Table, list[LeftOut]]:
    try:
        return pq.read_table(BytesIO(content)), []
    except (pa.ArrowException, OSError):
        raise Unusable(NO_PARQUET) from None


READERS: dict[str, Callable[[str, bytes], tuple[pa.Table, list[LeftOut]]]] = {
    "metadata.jsonl": _of_jsonl,
    "metadata.csv": _of_csv,
    "metadata.parquet": _of_parquet,
}
