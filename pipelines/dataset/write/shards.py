"""The write stage: one partition of media and samples in, one Parquet file with one row group out.

It runs on Spark's workers inside `mapInArrow`. Each image arrives once. The samples that use it become int32 indices
into a dictionary that holds it once; the dictionary is made from Arrow buffers, without a copy for each row.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from socket import gethostname

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark import TaskContext

from headrace.dataset.query.absence import CAUSES, DATA
from headrace.dataset.query.media import Path
from headrace.dataset.query.placement import Placement
from headrace.dataset.storage import filesystem
from headrace.dataset.write.bad_rows import count_bad_rows
from headrace.dataset.write.handles import Media, column_of_bytes, column_of_handles, first_used
from headrace.errors import DataError

EXAMPLES = 10
# The table of bad rows, relative to the dataset's folder.
QUARANTINE = "_headrace/quarantine"
MAX_PAGE = (1 << 31) - 1
# Build and task attempt make the name unique, so a retried task never overwrites a file.
FILE_NAME = "shard-{shard:06d}-{build}-{attempt}.parquet"

REPORT_SCHEMA = "path string, rows bigint, bytes bigint, stats string, report string"
_REPORT = pa.schema(
    [
        ("path", pa.string()),
        ("rows", pa.int64()),
        ("bytes", pa.int64()),
        ("stats", pa.string()),
        ("report", pa.string()),
    ]
)


@dataclass(frozen=True)
class Layout:
    """What the write stage must know about the build."""

    root: str
    build: str
    columns: tuple[str, ...]
    causes: tuple[str | None, ...]
    media: tuple[str, ...]
    handles: tuple[str, ...]
    images: tuple[Path, ...]
    """the places that hold images, as `image_paths` returns them"""
    on_bad_row: str
    max_pixels: int | None
    """as in `headrace.images.headers.read_header`"""
    placement: Placement


@dataclass
class Shard:
    """The samples of one partition, with the query's columns; media are dictionary arrays."""

    table: pa.Table
    rows: np.ndarray
    named: pa.ChunkedArray
    media: Media
    causes: dict[str, np.ndarray]

    def only(self, places: np.ndarray) -> "Shard":
        """The samples at `places`."""
        causes = {name: cause[places] for name, cause in self.causes.items()}
        chosen = pa.array(places)
        return Shard(self.table.take(chosen), self.rows[places], self.named.take(chosen), self.media, causes)

    def key(self, place: int) -> str | None:
        """The key of the sample at `place`: that of its image's row, or else the one that the query selects."""
        return self.media.key(self.rows[place]) or self.named[place].as_py()

    def examples(self, places: np.ndarray) -> list[str | None]:
        """The keys of the samples at the first 10 of `places` that have different images."""
        _, first = np.unique(self.rows[places], return_index=True)
        return [self.key(int(place)) for place in places[np.sort(first)[:EXAMPLES]]]


def write_stage(layout: Layout) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """The function for `mapInArrow`. It yields one row of `REPORT_SCHEMA` for a partition that has samples."""

    def write(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        samples, media, shard_number = _collected(batches, layout)
        if samples is None:
            return
        report = _write(_arranged(samples, media, layout), shard_number, layout)
        yield pa.RecordBatch.from_pylist([report], _REPORT)

    return write


def _collected(batches: Iterable[pa.RecordBatch], layout: Layout) -> tuple[pa.Table | None, Media, int]:
    """The partition's samples and media, separated, and its shard number (-1 if there are no samples)."""
    media, samples, number = Media(), [], -1
    for batch in batches:
        of_media = [name for name in batch.schema.names if name.startswith("m")]
        for is_samples, part in _runs(batch):
            if is_samples:
                number = part.column("__shard")[0].as_py()
                samples.append(_encoded(part.drop_columns(of_media), layout))
            else:
                media.add(part.select(["__row", "__key", *of_media]))
    return (pa.Table.from_batches(samples) if samples else None), media, number


def _runs(batch: pa.RecordBatch) -> Iterator[tuple[bool, pa.RecordBatch]]:
    """The runs of samples (True) and of media (False), without a copy: each task makes rows of one kind."""
    is_sample = batch.column("__hash").is_valid().to_numpy(zero_copy_only=False)
    starts = np.flatnonzero(np.diff(is_sample, prepend=~is_sample[:1]))
    for start, end in zip(starts, [*starts[1:], len(is_sample)], strict=True):
        yield bool(is_sample[start]), batch.slice(start, end - start)


def _encoded(part: pa.RecordBatch, layout: Layout) -> pa.RecordBatch:
    """`part` with by-value media dictionary-encoded, so that repeated bytes are freed at once."""
    names = {f"s{i}" for i, name in enumerate(layout.columns) if name in layout.media and name not in layout.handles}
    columns = [
        part.column(name).dictionary_encode() if name in names else part.column(name) for name in part.schema.names
    ]
    return pa.RecordBatch.from_arrays(columns, names=part.schema.names)


def _arranged(samples: pa.Table, media: Media, layout: Layout) -> Shard:
    """The samples in the order of the seeded hash, with those of one image together, and their `sample_id`."""
    order, row, hashed = (samples.column(name).to_numpy() for name in ("__order", "__row", "__hash"))
    places = np.lexsort((hashed, row, order))
    samples = samples.take(pa.array(places))
    columns = {"sample_id": pa.array(_sample_ids(row[places], hashed[places]))}
    media.seal()
    for i, name in enumerate(layout.columns):
        column = samples.column(f"s{i}")
        if name in layout.handles:
            columns[name] = column_of_handles(column, media)
        elif name in layout.media:
            columns[name] = column_of_bytes(column)
        else:
            columns[name] = column.cast(nullable(column.type))
    media.release()
    causes = {
        name: samples.column(why).fill_null(DATA).to_numpy()
        for name, why in zip(layout.columns, layout.causes, strict=True)
        if why is not None
    }
    return Shard(pa.table(columns), row[places], samples.column("__key"), media, causes)


def nullable(kind: pa.DataType) -> pa.DataType:
    """`kind` with fields that may be null: those of a null struct are, even where the query says they never are."""
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, nullable(field.type)) for field in kind])
    if pa.types.is_list(kind):
        return pa.list_(pa.field(kind.value_field.name, nullable(kind.value_type)))
    if pa.types.is_map(kind):
        return pa.map_(nullable(kind.key_type), nullable(kind.item_type))
    return kind


def _sample_ids(row: np.ndarray, hashed: np.ndarray) -> np.ndarray:
    """The hash of each sample; the n-th of equal samples, which are adjacent, gets the hash plus n · 2⁶⁴/φ."""
    repeated = np.zeros(len(hashed), np.int64)
    same = (hashed[1:] == hashed[:-1]) & (row[1:] == row[:-1])
    if same.any():
        starts = np.flatnonzero(np.concatenate(([True], ~same)))
        repeated = np.arange(len(hashed)) - np.repeat(starts, np.diff(np.append(starts, len(hashed))))
    return (hashed.view(np.uint64) + repeated.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15)).view(np.int64)


def _write(shard: Shard, number: int, layout: Layout) -> dict[str, object]:
    bad, reasons_of, reasons = _bad(shard, layout)
    partition = layout.placement.partition_of(number)
    report: dict[str, object] = {"samples": shard.table.num_rows, "bad": reasons, "partition": partition}
    if bad.any() and layout.on_bad_row == "quarantine":
        report["quarantine"] = _quarantined(shard, bad, reasons_of, number, layout)
    if bad.any():
        shard = shard.only(np.flatnonzero(~bad))
    if shard.table.num_rows == 0 or (bad.any() and layout.on_bad_row == "fail"):
        return {"path": None, "rows": 0, "bytes": 0, "stats": None, "report": json.dumps(report)}
    table = _compact(shard.table)
    report["nulls"] = _nulls(shard)
    report["media_bytes"] = sum(_dictionary_bytes(table.column(name)) for name in layout.media)
    report["images"] = len(np.unique(shard.rows))
    name = _file_name(number, layout)
    size = write_file(table, layout.root, name, layout.media)
    stats = {"numRecords": table.num_rows, **_statistics(table, layout.media)}
    return {
        "path": name,
        "rows": table.num_rows,
        "bytes": size,
        "stats": json.dumps(stats),
        "report": json.dumps(report),
    }


def _file_name(number: int, layout: Layout) -> str:
    task = TaskContext.get()
    return FILE_NAME.format(shard=number, build=layout.build, attempt=task.taskAttemptId() if task else 0)


def write_file(table: pa.Table, root: str, name: str, media: Iterable[str]) -> int:
    """Write `table` as one row group to `root`/`name`; returns the size of the file in bytes."""
    media = list(media)
    files, folder = filesystem(root)
    path = f"{folder}/{name}"
    try:
        pq.write_table(
            table,
            path,
            filesystem=files,
            row_group_size=max(table.num_rows, 1),
            use_dictionary=media or False,
            dictionary_pagesize_limit=MAX_PAGE,
            compression={column: "NONE" if column in media else "ZSTD" for column in _leaf_paths(table.schema)},
            write_statistics=[column for column in _leaf_paths(table.schema) if column not in media],
            store_schema=False,
        )
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        raise DataError(
            f"dataset.output.path: found no folder {root!r} that a worker on {gethostname()} can write to, expected "
            "one that all machines share, or a URI"
        ) from None
    return files.get_file_info(path).size


def _leaf_paths(schema: pa.Schema) -> list[str]:
    """The Parquet column paths of `schema`; a nested column has one for each leaf."""
    plain = pa.schema([f.with_type(f.type.value_type) if pa.types.is_dictionary(f.type) else f for f in schema])
    sink = pa.BufferOutputStream()
    pq.write_table(plain.empty_table(), sink)
    parquet = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [parquet.column(i).path for i in range(len(parquet))]


def _bad(shard: Shard, layout: Layout) -> tuple[np.ndarray, np.ndarray, dict[str, dict[str, object]]]:
    """Which samples use a missing or broken image, the reason for each, and for each reason its count and some keys."""
    bad = np.zeros(shard.table.num_rows, bool)
    reasons_of = np.full(len(bad), None, object)
    reasons: dict[str, dict[str, object]] = {}

    def count(reason: str, where: np.ndarray) -> None:
        where &= ~bad
        if where.any():
            keys = shard.examples(np.flatnonzero(where))
            found = reasons.setdefault(reason, {"samples": 0, "keys": []})
            found["samples"] += int(where.sum())  # type: ignore[operator]
            found["keys"] = [*found["keys"], *keys][:EXAMPLES]  # type: ignore[misc]
            bad[where] = True
            reasons_of[where] = reason

    count_bad_rows(shard.table, layout.images, layout.max_pixels, count)
    return bad, reasons_of, reasons


def _quarantined(shard: Shard, bad: np.ndarray, reasons: np.ndarray, number: int, layout: Layout) -> dict[str, object]:
    """Write the bad samples, with their keys and reasons, to the quarantine folder; returns what its log records."""
    places = np.flatnonzero(bad)
    table = shard.only(places).table
    key, reason = quarantine_columns(layout.columns)
    table = table.append_column(key, pa.array([shard.key(int(i)) for i in places], pa.string()))
    table = table.append_column(reason, pa.array(reasons[places], pa.string()))
    return _write_quarantine(_compact(table), number, layout)


def quarantine_source(bad: pa.Table, layout: Layout) -> dict[str, object]:
    """Write bad rows of the source, which the query never saw, to the quarantine folder, from the driver.

    `bad` has their keys and reasons. The query's columns are missing in the file, which reads as null. Returns what the
    table's log records.
    """
    named = bad.rename_columns(list(quarantine_columns(layout.columns)))
    return _write_quarantine(named, layout.placement.total, layout)


def quarantine_columns(columns: Sequence[str]) -> tuple[str, str]:
    """The names of the quarantine's own columns: `key` and `reason`, with underscores if the query has such columns."""
    taken = {name.lower() for name in columns}
    key, reason = "key", "reason"
    while key in taken:
        key = f"_{key}"
    while reason in taken:
        reason = f"_{reason}"
    return key, reason


def _write_quarantine(table: pa.Table, number: int, layout: Layout) -> dict[str, object]:
    name = _file_name(number, layout)
    size = write_file(table, f"{layout.root}/{QUARANTINE}", name, layout.media)
    return {"path": name, "rows": table.num_rows, "bytes": size}


def _compact(table: pa.Table) -> pa.Table:
    """`table` with dictionaries that hold only values its rows use, in the order of first use."""
    columns = []
    for column in table.columns:
        if pa.types.is_dictionary(column.type):
            column = compacted(column.combine_chunks())
        columns.append(column)
    return pa.table(columns, names=table.column_names)


def compacted(column: pa.DictionaryArray) -> pa.DictionaryArray:
    """`column` with its dictionary in the order of first use, without unused entries."""
    indices = column.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    used, places = first_used(indices)
    if len(used) == len(column.dictionary) and (used == np.arange(len(used))).all():
        return column
    renumbered = pa.array(places.astype(np.int32), mask=places < 0)
    return pa.DictionaryArray.from_arrays(renumbered, column.dictionary.take(pa.array(used)))


def _dictionary_bytes(column: pa.ChunkedArray) -> int:
    dictionary = column.combine_chunks().dictionary
    return pa.compute.sum(pa.compute.binary_length(dictionary)).as_py() or 0


def _nulls(shard: Shard) -> dict[str, dict[str, dict[str, object]]]:
    """The number of nulls for each column and cause, and the keys of some."""
    nulls: dict[str, dict[str, dict[str, object]]] = {}
    for name in shard.table.column_names:
        column = shard.table.column(name)
        if not column.null_count:
            continue
        rows = np.flatnonzero(column.is_null().to_numpy())
        causes = shard.causes[name][rows] if name in shard.causes else np.full(len(rows), DATA)
        nulls[name] = {}
        for cause in np.unique(causes):
            chosen = rows[causes == cause]
            nulls[name][CAUSES[cause]] = {"count": len(chosen), "keys": shard.examples(chosen)}
    return nulls


def _statistics(table: pa.Table, media: Iterable[str]) -> dict[str, dict[str, object]]:
    """Statistics for the Delta log: null counts of columns that are not nested, and the range of integer columns."""
    nulls, least, most = {}, {}, {}
    for name in table.column_names:
        column = table.column(name)
        if pa.types.is_nested(column.type) and name not in media:
            continue
        nulls[name] = column.null_count
        if pa.types.is_integer(column.type) and column.null_count < len(column):
            extremes = pa.compute.min_max(column)
            least[name], most[name] = extremes["min"].as_py(), extremes["max"].as_py()
    return {"nullCount": nulls, "minValues": least, "maxValues": most}
