"""Opening one shard: columns are read by pyarrow or used in place, in the form that batches are gathered from."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.errors import DataError, Unavailable
from headrace.loading.shard.budget import Budget, Lease
from headrace.loading.shard.columns import Field, Numbers, Runs, Validity, is_text_or_bytes, one_array
from headrace.loading.shard.pages import LocalFile, NotInPlace, Values, byte_arrays, column_number, fixed_width
from headrace.loading.shard.pictures import Encoded, InFile, InMemory, Pictures
from headrace.loading.shard.rows import EveryRow, OneRowPerImage, WeightedRowPerImage, count_images
from headrace.loading.table.failures import read_error
from headrace.loading.table.plan import Plan
from headrace.loading.table.storage import read_with

T = TypeVar("T")


@dataclass(frozen=True)
class Selection:
    """What to read from each shard."""

    fields: Mapping[str, Field]
    """what batches hold besides decoded images, by batch key"""
    media: tuple[str, ...]
    """the columns of encoded images"""
    image_key: str | None
    """the column that identifies images; None: every row is a sample"""
    weight: str | None
    """the column of weights by which an image's rows are drawn; None: the rows alternate"""
    seed: int
    sample_id: str | None = None
    """the column that identifies bad samples in messages"""

    @property
    def columns(self) -> list[str]:
        """Every column that is read."""
        extra = [name for name in (self.image_key, self.weight, self.sample_id) if name]
        return list(dict.fromkeys([*self.media, *(field.column for field in self.fields.values()), *extra]))


@dataclass(frozen=True)
class Shard:
    """An open shard. Its values are in memory or used in place."""

    path: str
    rows: int
    samples: EveryRow | OneRowPerImage
    values: Mapping[str, Any]
    """for each field, what `Kind.load` returned for its column"""
    pictures: Mapping[str, Pictures]
    lease: Lease
    """the bytes it holds; they are released when nothing refers to the shard any more"""
    ids: pa.ChunkedArray | None
    """the `sample_id` of each row"""

    def sample_id(self, row: int) -> Any:
        """The `sample_id` of `row`, or None if the table has none."""
        return None if self.ids is None else self.ids[row].as_py()


@dataclass
class _Contents:
    """The columns of a file: a table decoded by pyarrow, and values that are used in place."""

    rows: int
    table: pa.Table
    images: dict[str, InFile] = field(default_factory=dict)
    runs: dict[str, Runs] = field(default_factory=dict)


def read_shard(plan: Plan, number: int, selection: Selection, budget: Budget, keep: bool) -> Shard:
    """Open shard `number`. Raises DataError, which names the file, if it is missing, damaged or not as planned.

    Uncompressed columns of images and of fixed-size binary stay in a local file until a sample needs them, unless the
    shard is kept in memory for later epochs (`keep`).
    """
    path = plan.path(number)
    decoded = tuple(name for name in selection.columns if name in selection.media or name == selection.image_key)
    contents = _open(plan, number, selection.columns, decoded, selection.image_key, in_place=not keep)
    lease = Lease(budget)
    with _named(plan, number):
        columns = {
            name: _column(plan, number, contents, name)
            for name in selection.columns
            if name not in contents.images and name not in contents.runs
        }
        encoded: dict[str, Encoded] = {
            name: contents.images[name] if name in contents.images else InMemory(columns[name])
            for name in selection.media
        }
        values = {name: _values(plan, one, contents, columns, path) for name, one in selection.fields.items()}
        samples = _samples(contents, columns, number, selection, path)
    pictures = {name: Pictures(images, lease, keep) for name, images in encoded.items()}
    held = [name for name, one in selection.fields.items() if one.column not in contents.runs]
    ids = columns.get(selection.sample_id) if selection.sample_id else None
    lease.grow(sum(images.nbytes for images in encoded.values()))
    lease.grow(sum(selection.fields[name].kind.nbytes(values[name]) for name in held))
    lease.grow(samples.nbytes + (0 if ids is None else ids.nbytes))
    return Shard(path, contents.rows, samples, values, pictures, lease, ids)


def _values(plan: Plan, one: Field, contents: _Contents, columns: Mapping[str, pa.ChunkedArray], path: str) -> Any:
    """A shard's values for a field, in the form that its kind gathers."""
    if one.column in contents.runs:
        every = np.ones(contents.rows, bool)  # none is null, or they could not be used in place
        return every if isinstance(one.kind, Validity) else contents.runs[one.column].values()
    column = columns[one.column]
    if isinstance(one.kind, Numbers) and one.kind.shape is None and column.null_count == len(column):
        _find_shape(plan, one.column, one.kind)
    return one.kind.load(column, f"{path}: column {one.column}")


def _find_shape(plan: Plan, name: str, kind: Numbers) -> None:
    """Give `kind` the shape of the first value of column `name` that is not null, in any shard that can be read.

    Without such a value, each row has no numbers. Raises Unavailable.
    """
    for number in range(len(plan)):
        try:
            contents = _open(plan, number, [name], (), None, in_place=False)
            kind.load(_column(plan, number, contents, name).drop_null(), f"{plan.path(number)}: column {name}")
        except Unavailable:
            raise
        except DataError:
            continue
        if kind.shape is not None:
            return
    kind.shape = (0,)


def _samples(
    contents: _Contents, columns: Mapping[str, pa.ChunkedArray], number: int, selection: Selection, path: str
) -> EveryRow | OneRowPerImage:
    key = selection.image_key
    if key is None:
        return EveryRow(contents.rows)
    keys = contents.images[key].picture_of_row if key in contents.images else keys_of_rows(columns[key])
    if selection.weight is None:
        return OneRowPerImage(keys, selection.seed, number)
    weights = columns[selection.weight].cast(pa.float64()).fill_null(0.0).to_numpy()
    try:
        return WeightedRowPerImage(keys, weights, selection.seed, number)
    except ValueError as error:
        raise DataError(f"{path}: column {selection.weight}: {error}") from error


def images_in_shard(plan: Plan, number: int, image_key: str) -> int:
    """The number of images in shard `number`, read from the column `image_key` alone."""
    contents = _open(plan, number, [image_key], (image_key,), image_key, in_place=True)
    if image_key in contents.images:
        return count_images(contents.images[image_key].picture_of_row)
    return count_images(keys_of_rows(_column(plan, number, contents, image_key)))


def footer(plan: Plan, number: int) -> pq.FileMetaData:
    """The footer of shard `number`. Raises DataError if it cannot be read."""
    with _named(plan, number):
        place = plan.place
        return read_with(
            place.filesystem,
            plan.path(number),
            int(plan.sizes[number]),
            place.cache,
            lambda source, _: pq.read_metadata(source),
        )


def with_file_types(plan: Plan, columns: Sequence[str], metadata: pq.FileMetaData | None) -> Plan:
    """The plan with the types that a file gives to `columns`, where they are narrower than those in the log.

    Delta has no types for fixed-size binary, fixed-size lists and tensors, but the files do. `metadata` is the footer
    of one of them.
    """
    if metadata is None or plan.place.version is None:
        return plan
    found = metadata.schema.to_arrow_schema()
    schema = plan.schema
    for name in columns:
        wide = schema.field(name)
        if _is_wide(wide.type) and name in found.names and _narrows(found.field(name).type, wide.type):
            schema = schema.set(schema.get_field_index(name), wide.with_type(found.field(name).type))
    return replace(plan, schema=schema)


def _is_wide(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_list(kind)


def _narrows(found: pa.DataType, kind: pa.DataType) -> bool:
    if pa.types.is_binary(kind):
        return pa.types.is_fixed_size_binary(found)
    storage = found.storage_type if isinstance(found, pa.BaseExtensionType) else found
    return pa.types.is_fixed_size_list(storage) and storage.value_type == kind.value_type


def keys_of_rows(column: pa.ChunkedArray) -> np.ndarray:
    """A number for each row, int64: equal where the values are equal, −1 where null."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = one_array(column.unify_dictionaries())
    return array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def _open(
    plan: Plan, number: int, columns: list[str], dictionaries: tuple[str, ...], key: str | None, in_place: bool
) -> _Contents:
    """The `columns` of a shard. Text, bytes and `dictionaries` stay dictionary-encoded if the file has them so.

    Those in `dictionaries` may be used in place, column `key` only if equal values have the same number there.
    """
    with _named(plan, number):
        read = partial(
            _read,
            plan=plan,
            number=number,
            columns=columns,
            dictionaries=dictionaries,
            key=key,
            in_place=in_place,
        )
        return read_with(plan.place.filesystem, plan.path(number), int(plan.sizes[number]), plan.place.cache, read)


@contextmanager
def _named(plan: Plan, number: int) -> Iterator[None]:
    """Turn errors of reading into a DataError that names the file."""
    path = plan.path(number)
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(f"{path}: file is missing, expected {plan.rows[number]} rows{_of(plan)}") from error
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise read_error(path, error) from error


def _read(
    source: pa.NativeFile,
    local: str | os.PathLike[str] | None,
    *,
    plan: Plan,
    number: int,
    columns: list[str],
    dictionaries: tuple[str, ...],
    key: str | None,
    in_place: bool,
) -> _Contents:
    metadata = pq.read_metadata(source)
    if metadata.num_rows != plan.rows[number]:
        raise DataError(f"{plan.path(number)}: found {metadata.num_rows} rows, expected {plan.rows[number]}{_of(plan)}")
    schema = metadata.schema.to_arrow_schema()
    contents = _Contents(metadata.num_rows, pa.table({}))
    if in_place and local is not None:
        _use_in_place(contents, LocalFile(local), metadata, plan, columns, dictionaries, key)
    rest = [
        name for name in columns if name in schema.names and name not in contents.images and name not in contents.runs
    ]
    encoded = [name for name in rest if name in dictionaries or is_text_or_bytes(plan.schema.field(name).type)]
    encoded = [name for name in encoded if _has_dictionary(metadata, name)]
    source.seek(0)
    file = pq.ParquetFile(source, metadata=metadata, read_dictionary=encoded)
    contents.table = file.read(rest, use_threads=False)
    return contents


def _use_in_place(
    contents: _Contents,
    file: LocalFile,
    metadata: pq.FileMetaData,
    plan: Plan,
    columns: list[str],
    dictionaries: tuple[str, ...],
    key: str | None,
) -> None:
    """Add to `contents` the columns that can be used in place."""

    def found(find: Callable[[int, pq.FileMetaData, str], T], path: str) -> T | None:
        try:
            return find(file.descriptor, metadata, path)
        except NotInPlace:
            return None

    for name in columns:
        kind = plan.schema.field(name).type
        if name in dictionaries:
            path = f"{name}.bytes" if pa.types.is_struct(kind) else name
            values: Values | None = found(byte_arrays, path) if _is_bytes(kind) else None
            if values is not None and (values.distinct or name != key):
                contents.images[name] = InFile(file, values)
        elif pa.types.is_fixed_size_binary(kind):
            runs = found(fixed_width, name)
            if runs and metadata.schema.column(column_number(metadata, name)).length == kind.byte_width:
                contents.runs[name] = Runs(file, runs, kind.byte_width)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _has_dictionary(metadata: pq.FileMetaData, name: str) -> bool:
    if not metadata.num_row_groups:
        return False
    group = metadata.row_group(0)
    for place in range(group.num_columns):
        chunk = group.column(place)
        if chunk.path_in_schema == name:
            return bool({"RLE_DICTIONARY", "PLAIN_DICTIONARY"} & set(chunk.encodings))
    return False


def _column(plan: Plan, number: int, contents: _Contents, name: str) -> pa.ChunkedArray:
    """A column with the type in the dataset's schema: from the file, from its partition value, or all null."""
    kind = plan.schema.field(name).type
    if name in plan.partitions.column_names:
        value = plan.partitions.column(name)[number].cast(kind)
        return pa.chunked_array([pa.repeat(value, contents.rows)])
    if name not in contents.table.column_names:
        if not plan.schema.field(name).nullable:
            raise DataError(f"{plan.path(number)}: found no column {name}, expected {kind}")
        return pa.chunked_array([pa.nulls(contents.rows, kind)])
    column = contents.table.column(name)
    if not pa.types.is_primitive(column.type):
        try:
            column.validate(full=True)  # pyarrow believes indices into dictionaries, and that text is UTF-8
        except pa.ArrowInvalid as error:
            line = " ".join(str(error).split())
            raise DataError(f"{plan.path(number)}: column {name}: found damaged values: {line}") from error
    found = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if found == kind:
        return column
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise DataError(f"{plan.path(number)}: found column {name} of type {found}, expected {kind}") from error


def _of(plan: Plan) -> str:
    return "" if plan.place.version is None else f" as version {plan.place.version} says"
