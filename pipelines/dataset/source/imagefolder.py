"""Sources in the layout of HuggingFace's ImageFolder: images, and metadata files with a row for each of them.

`file_name` of a row names an image, relative to the folder of the metadata file. The other columns become columns of
the source. A column `mask_file_name` names another image, which becomes the column `mask`, and `views_file_names`
names several, which become the array `views`.
"""

import posixpath
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import from_arrow_schema

from headrace.dataset.source.account import BAD_FILE, BAD_ROW, DROPPED, NOT_FOUND, Unusable
from headrace.dataset.source.folders import in_tasks
from headrace.dataset.source.listing import Folder, list_files, printable, reader
from headrace.dataset.source.metadata import FILE_NAME, is_metadata, read_metadata
from headrace.dataset.source.samples import IMAGES, LeftOut, keys, name_in_folder, other
from headrace.errors import DataError, RecipeError

ONE, SEVERAL = "_file_name", "_file_names"
NO_NAME = BAD_ROW + "metadata without a file_name"


@dataclass(frozen=True)
class Metadata:
    """The rows of all metadata files. `names` are the paths of their images in the folder.
    The columns `media` of `table` hold the paths of further images, or arrays of paths.
    """

    table: pa.Table
    names: tuple[str | None, ...] = ()
    media: tuple[str, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def files(self) -> set[str]:
        """The paths of all images that the metadata name."""
        found = {name for name in self.names if name}
        for column in self.media:
            for value in self.table[column].to_pylist():
                found.update(value if isinstance(value, list) else [value] if value else [])
        return found


@dataclass(frozen=True, slots=True)
class Described:
    """A row to read: the image `path`, its key, and its row of the metadata; None: it has none."""

    key: str
    path: str
    row: int | None


def open_imagefolder(spark: SparkSession, path: str) -> tuple[DataFrame, str]:
    """A row for each image in the folder `path`, and the fingerprint of its files.

    The columns are `key`, the image's path in the folder without its suffix (with it, if two images would have the same
    key); `image`; those of the metadata; and `DROPPED`. Raises RecipeError if there are no images, and DataError for
    metadata whose columns do not fit together.
    """
    folder = list_files(path)
    metadata = metadata_of(folder)
    rows, left_out = described(folder, metadata)
    if not rows:
        raise RecipeError(f"dataset.source.path: found no .png, .jpg or other image files in {path!r}")
    schema = _schema(metadata)
    try:
        columns = from_arrow_schema(schema)
    except PySparkException as error:
        first = str(error).splitlines()[0]
        raise DataError(f"dataset.source.path: found {first} in the metadata of {path!r}") from None
    sizes = {file.path: file.size for file in folder.files}
    weights = [sizes[row.path] for row in rows] + [0] * len(left_out)
    table, media, root = spark.sparkContext.broadcast(metadata.table), metadata.media, folder.root

    def read(items: Sequence[Described | LeftOut]) -> Iterator[pa.RecordBatch]:
        file = reader(root)
        for item in items:
            yield _batch(item, table.value, media, file, schema)

    return in_tasks(spark, [*rows, *left_out], weights, read, columns), folder.fingerprint


def metadata_of(folder: Folder) -> Metadata:
    """The metadata files of `folder`, read. Raises DataError if their columns do not fit together."""
    read = reader(folder.root)
    tables, left_out = [], []
    for file in folder.files:
        if file.problem is None and is_metadata(file.path):
            try:
                table, without = read_metadata(file.path, read(file.path))
            except Unusable as error:
                left_out.append(LeftOut(file.path, BAD_FILE + str(error).removeprefix(BAD_FILE).removeprefix(BAD_ROW)))
                continue
            left_out += without
            if table.num_rows:
                tables.append(_resolved(table, posixpath.dirname(file.path)))
    if not tables:
        return Metadata(pa.table({}), left_out=tuple(left_out))
    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        first = str(error).splitlines()[0]
        raise DataError(f"dataset.source.path: found metadata files with different types: {first}") from None
    names = tuple(table[FILE_NAME].to_pylist())
    table = table.drop_columns([FILE_NAME])
    media = {name: name.removesuffix(ONE).removesuffix(SEVERAL) for name in table.column_names if _kind(table, name)}
    table = table.rename_columns([media.get(name, name) for name in table.column_names])
    taken = [name.lower() for name in ("key", "image", DROPPED, *table.column_names)]
    for name in table.column_names:
        if taken.count(name.lower()) > 1:
            raise DataError(f"dataset.source.path: found a column {name!r} in the metadata, expected none of that name")
    return Metadata(table, names, tuple(media.values()), tuple(left_out))


def described(folder: Folder, metadata: Metadata) -> tuple[list[Described], list[LeftOut]]:
    """The rows to read: those of the metadata, then images without metadata; and the files left out."""
    files = {file.path for file in folder.files if file.problem is None}
    named = metadata.files
    alone = [path for path in sorted(files - named) if name_in_folder(path).suffix.lower() in IMAGES]
    key_of = keys([*{name for name in metadata.names if name in files}, *alone])
    rows, left_out = [], list(metadata.left_out)
    for number, name in enumerate(metadata.names):
        if name in files:
            rows.append(Described(key_of[name], name, number))
        else:
            left_out.append(LeftOut(name or f"row {number + 1}", NOT_FOUND if name else NO_NAME))
    rows += [Described(key_of[path], path, None) for path in alone]
    for file in folder.files:
        if file.problem is not None:
            left_out.append(LeftOut(file.path, file.problem))
        elif file.path not in named and file.path not in key_of and not is_metadata(file.path):
            left_out.append(LeftOut(file.path, other(name_in_folder(file.path).suffix.lower())))
    return rows, left_out


def _kind(table: pa.Table, name: str) -> pa.DataType | None:
    """The type of the column of media that is made from the column `name` of paths; None for other columns."""
    kind = table.schema.field(name).type
    if name.endswith(ONE) and pa.types.is_string(kind):
        return pa.binary()
    if name.endswith(SEVERAL) and pa.types.is_list(kind) and pa.types.is_string(kind.value_type):
        return pa.list_(pa.binary())
    return None


def _resolved(table: pa.Table, folder: str) -> pa.Table:
    """`table` with paths relative to the source's folder in its columns of paths. All columns of nulls are strings."""
    for place, field in enumerate(table.schema):
        column = table.column(place)
        if pa.types.is_null(field.type):
            table = table.set_column(place, field.name, column.cast(pa.string()))
        elif field.name == FILE_NAME or _kind(table, field.name):
            paths = [_in_folder(value, folder) for value in column.to_pylist()]
            table = table.set_column(place, field.name, pa.array(paths, field.type))
    return table


def _in_folder(value: Any, folder: str) -> Any:
    if isinstance(value, list):
        return [_in_folder(one, folder) for one in value]
    return posixpath.normpath(posixpath.join(folder, value)) if value else None


def _schema(metadata: Metadata) -> pa.Schema:
    fields = []
    for field in metadata.table.schema:
        if field.name in metadata.media:
            field = field.with_type(pa.list_(pa.binary()) if pa.types.is_list(field.type) else pa.binary())
        fields.append(field)
    return pa.schema([("key", pa.string()), ("image", pa.binary()), *fields, (DROPPED, pa.string())])


def _batch(
    item: Described | LeftOut, table: pa.Table, media: Sequence[str], read: Callable[[str], bytes], schema: pa.Schema
) -> pa.RecordBatch:
    """The row of `item`."""
    if isinstance(item, LeftOut):
        return pa.RecordBatch.from_pylist([{"key": printable(item.path), DROPPED: item.reason}], schema)
    row = table.take(pa.array([item.row], pa.int64())).combine_chunks() if table.num_columns else table
    columns = {name: row.column(name).combine_chunks() for name in table.column_names}
    try:
        columns["image"] = pa.array([read(item.path)], pa.binary())
        for name in media:
            made = _read_all(columns[name][0].as_py(), read)
            columns[name] = pa.array([made], schema.field(name).type)
    except Unusable as error:
        return _batch(LeftOut(item.key, str(error)), table, media, read, schema)
    columns |= {"key": pa.array([printable(item.key)]), DROPPED: pa.nulls(1, pa.string())}
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def _read_all(paths: Any, read: Callable[[str], bytes]) -> Any:
    if isinstance(paths, list):
        return [_read_all(path, read) for path in paths]
    return None if paths is None else read(paths)
