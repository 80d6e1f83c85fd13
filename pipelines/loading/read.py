"""One shard: its file read by pyarrow, its columns in the form that a batch takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.errors import DataError
from pipelines.loading.budget import Budget, Lease
from pipelines.loading.columns import Field, one_array
from pipelines.loading.pictures import Pictures
from pipelines.loading.plan import Plan
from pipelines.loading.samples import EveryRow, OneRowPerImage, WeightedRowPerImage, count_images
from pipelines.loading.storage import read_with


@dataclass(frozen=True)
class Wanted:
    """What is read of each shard."""

    fields: Mapping[str, Field]
    """what batches hold besides decoded images, by key"""
    media: tuple[str, ...]
    """columns of encoded images"""
    image_key: str | None
    """the column that tells images apart; None: every row is a sample"""
    weight: str | None
    """the column of weights that rows of an image are drawn by; None: they take turns"""
    seed: int

    @property
    def columns(self) -> list[str]:
        """Every column that is read."""
        extra = [name for name in (self.image_key, self.weight) if name]
        return list(dict.fromkeys([*self.media, *(field.column for field in self.fields.values()), *extra]))


@dataclass(frozen=True)
class Shard:
    """A shard in memory."""

    path: str
    rows: int
    samples: EveryRow | OneRowPerImage
    values: Mapping[str, Any]
    """what `Kind.load` made of the column of each field"""
    pictures: Mapping[str, Pictures]
    lease: Lease
    """the bytes it holds, given back when nothing refers to the shard any more"""


def read_shard(plan: Plan, number: int, wanted: Wanted, budget: Budget, keep: bool) -> Shard:
    """Read shard `number`. Raises DataError, naming the file, where it is missing, damaged or not as planned."""
    path = plan.path(number)
    table = read_table(plan, number, wanted.columns, wanted.media)
    lease = Lease(budget)
    pictures = {name: Pictures(table.column(name), lease, keep) for name in wanted.media}
    values = {
        name: field.kind.load(table.column(field.column), f"{path}: column {field.column}")
        for name, field in wanted.fields.items()
    }
    samples = _samples(table, number, wanted, path)
    lease.grow(sum(column.nbytes for column in pictures.values()))
    lease.grow(sum(wanted.fields[name].kind.nbytes(column) for name, column in values.items()))
    return Shard(path, len(table), samples, values, pictures, lease)


def _samples(table: pa.Table, number: int, wanted: Wanted, path: str) -> EveryRow | OneRowPerImage:
    if wanted.image_key is None:
        return EveryRow(len(table))
    keys = keys_of_rows(table.column(wanted.image_key))
    if wanted.weight is None:
        return OneRowPerImage(keys, wanted.seed, number)
    weights = table.column(wanted.weight).cast(pa.float64()).fill_null(0.0).to_numpy()
    try:
        return WeightedRowPerImage(keys, weights, wanted.seed, number)
    except ValueError as error:
        raise DataError(f"{path}: column {wanted.weight}: {error}") from error


def images_in_shard(plan: Plan, number: int, image_key: str) -> int:
    """How many images shard `number` has, read from the one column that tells them apart."""
    table = read_table(plan, number, [image_key], (image_key,))
    return count_images(keys_of_rows(table.column(image_key)))


def keys_of_rows(column: pa.ChunkedArray) -> np.ndarray:
    """A number for each row, int64: equal where the values are equal, −1 where null."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    array = one_array(column.unify_dictionaries())
    return array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)


def read_table(plan: Plan, number: int, columns: list[str], dictionaries: tuple[str, ...]) -> pa.Table:
    """The wanted columns of a shard; `dictionaries` stay dictionary-encoded where the file has them so."""
    path = plan.path(number)
    try:
        table = read_with(
            plan.place.filesystem,
            path,
            int(plan.sizes[number]),
            plan.place.cache,
            lambda file: _read(file, columns, dictionaries),
        )
    except FileNotFoundError as error:
        raise DataError(f"{path}: file is missing, expected {plan.rows[number]} rows{_of(plan)}") from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot read: {' '.join(str(error).split())}") from error
    if len(table) != plan.rows[number]:
        raise DataError(f"{path}: found {len(table)} rows, expected {plan.rows[number]}{_of(plan)}")
    return pa.table({name: _column(plan, number, table, name) for name in columns})


def _read(source: pa.NativeFile, columns: list[str], dictionaries: tuple[str, ...]) -> pa.Table:
    metadata = pq.read_metadata(source)
    schema = metadata.schema.to_arrow_schema()
    encoded = [name for name in dictionaries if name in schema.names and _has_dictionary(metadata, name)]
    source.seek(0)
    file = pq.ParquetFile(source, metadata=metadata, read_dictionary=encoded)
    return file.read([name for name in columns if name in schema.names], use_threads=False)


def _has_dictionary(metadata: pq.FileMetaData, name: str) -> bool:
    if not metadata.num_row_groups:
        return False
    group = metadata.row_group(0)
    for place in range(group.num_columns):
        chunk = group.column(place)
        if chunk.path_in_schema == name:
            return bool({"RLE_DICTIONARY", "PLAIN_DICTIONARY"} & set(chunk.encodings))
    return False


def _column(plan: Plan, number: int, table: pa.Table, name: str) -> pa.ChunkedArray:
    """A column of a file as the dataset's schema has it: from the file, from its partition, or null."""
    kind = plan.schema.field(name).type
    if name in plan.partitions.column_names:
        value = plan.partitions.column(name)[number].cast(kind)
        return pa.chunked_array([pa.repeat(value, len(table))])
    if name not in table.column_names:
        if not plan.schema.field(name).nullable:
            raise DataError(f"{plan.path(number)}: found no column {name}, expected {kind}")
        return pa.chunked_array([pa.nulls(len(table), kind)])
    column = table.column(name)
    found = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if found == kind:
        return column
    try:
        return column.cast(kind)
    except pa.ArrowException as error:
        raise DataError(f"{plan.path(number)}: found column {name} of type {found}, expected {kind}") from error


def _of(plan: Plan) -> str:
    return "" if plan.place.version is None else f" as version {plan.place.version} says"
