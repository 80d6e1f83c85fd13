"""Where the values of a column are inside a Parquet file, so that they can be used in place.

pyarrow decodes whole column chunks: a shard of 64 MB of images takes 64 MB of memory before its first image is used.
But the pages of an uncompressed BYTE_ARRAY or FIXED_LEN_BYTE_ARRAY column hold the values unchanged. Walking along the
lengths gives the place of each value, and reading one image is one `pread`. Only page headers, lengths and the indices
of dictionary-encoded pages are read here. The format is defined in github.com/apache/parquet-format: README.md (data
pages), Encodings.md (PLAIN = 0, PLAIN_DICTIONARY = 2, RLE = 3, RLE_DICTIONARY = 8) and parquet.thrift (PageHeader).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq

_PLAIN, _RLE, _DICTIONARIES = 0, 3, (2, 8)
_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2 = 0, 2, 3
_HEADER_BYTES = (1 << 9, 1 << 14, 1 << 20)
_SMALL = 1 << 13
_WALKED_AT_ONCE = 1 << 18
_DEEPEST = 4
"""structs inside each other in a page header; statistics are two deep"""
_WIDEST = 32
"""bits of an index into a dictionary"""


class NotInPlace(Exception):
    """The values cannot be used in place: they are compressed, nested, encoded as a whole, or damaged."""


@dataclass(frozen=True)
class Values:
    """The values of one column: `offsets` and `lengths` in the file, and `value_of_row` (−1 for null), all int64."""

    offsets: np.ndarray
    lengths: np.ndarray
    value_of_row: np.ndarray
    distinct: bool
    """whether equal values have the same number, because all of them come from one dictionary"""


@dataclass(frozen=True)
class _Page:
    kind: int
    count: int
    encoding: int
    start: int
    """the offset in the file of the data after the header"""
    size: int
    levels: tuple[int, int] | None
    """bytes of the repetition and the definition levels; only in a page of version 2"""

    @property
    def end(self) -> int:
        """The offset in the file of the first byte after the page."""
        return self.start + self.size


def column_number(metadata: pq.FileMetaData, path: str) -> int:
    """The number of the leaf column at `path`. Raises NotInPlace if there is none."""
    for number in range(metadata.num_columns):
        if metadata.schema.column(number).path == path:
            return number
    raise NotInPlace(path)


def byte_arrays(file: int, metadata: pq.FileMetaData, path: str) -> Values:
    """Where the values of the BYTE_ARRAY column `path` are in the open file descriptor `file`.

    Raises NotInPlace if they must be decoded.
    """
    number = column_number(metadata, path)
    max_level = metadata.schema.column(number).max_definition_level
    offsets: list[int] = []
    lengths: list[int] = []
    rows: list[np.ndarray] = []
    distinct = metadata.num_row_groups == 1
    for group in range(metadata.num_row_groups):
        base, words = len(offsets), 0
        for page in _pages(file, metadata, group, number, "BYTE_ARRAY"):
            if page.kind == _DICTIONARY_PAGE:
                _walk(file, page.start, page.end, page.count, offsets, lengths)
                words = page.count
                continue
            present, start = _present(file, page, max_level)
            found = int(present.sum())
            index = np.full(page.count, -1, np.int64)
            if page.encoding == _PLAIN:
                distinct = False
                index[present] = len(offsets) + np.arange(found)
                _walk(file, start, page.end, found, offsets, lengths)
            elif page.encoding in _DICTIONARIES:
                index[present] = base + _indices(file, start, page.end, found, words)
            else:
                raise NotInPlace(f"encoding {page.encoding}")
            rows.append(index)
    value_of_row = np.concatenate(rows) if rows else np.empty(0, np.int64)
    return Values(np.array(offsets, np.int64), np.array(lengths, np.int64), value_of_row, distinct)


def fixed_width(file: int, metadata: pq.FileMetaData, path: str) -> list[tuple[int, int]]:
    """(offset, count) of each run of values of the FIXED_LEN_BYTE_ARRAY column `path`.

    Raises NotInPlace if they must be decoded or some are null.
    """
    number = column_number(metadata, path)
    leaf = metadata.schema.column(number)
    runs = []
    for group in range(metadata.num_row_groups):
        for page in _pages(file, metadata, group, number, "FIXED_LEN_BYTE_ARRAY"):
            present, start = _present(file, page, leaf.max_definition_level)
            if page.encoding != _PLAIN or page.kind == _DICTIONARY_PAGE or not present.all():
                raise NotInPlace(path)
            if start + page.count * leaf.length > page.end:
                raise NotInPlace("more values than fit into their page")
            runs.append((start, page.count))
    return runs


def _pages(file: int, metadata: pq.FileMetaData, group: int, number: int, physical: str) -> Iterator[_Page]:
    """The pages of a column in a row group. All lie in the file, and together they have a value for each row."""
    chunk = metadata.row_group(group).column(number)
    leaf = metadata.schema.column(number)
    if chunk.compression != "UNCOMPRESSED" or leaf.max_repetition_level or leaf.physical_type != physical:
        raise NotInPlace(leaf.path)
    at = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset:
        at = min(at, chunk.dictionary_page_offset)
    end = at + chunk.total_compressed_size
    if not 0 <= at <= end <= os.fstat(file).st_size:
        raise NotInPlace("a column that reaches beyond the end of the file")
    left = metadata.row_group(group).num_rows
    first = at
    while at < end and chunk.num_values:
        page = _header(file, at)
        if page.kind not in (_DATA_PAGE, _DICTIONARY_PAGE, _DATA_PAGE_V2):
            raise NotInPlace(f"page of type {page.kind}")
        if page.kind == _DICTIONARY_PAGE and (at != first or page.encoding not in (_PLAIN, _DICTIONARIES[0])):
            raise NotInPlace("a dictionary that is not plain, or not before the values")
        if page.size < 0 or page.end > end:
            raise NotInPlace("a page that reaches beyond the end of its column")
        if page.kind != _DICTIONARY_PAGE:
            left -= page.count
        if page.count < 0 or left < 0:
            raise NotInPlace("more values than rows")
        yield page
        at = page.end
    if left:
        raise NotInPlace("fewer values than rows")


def _header(file: int, at: int) -> _Page:
    """The page header at offset `at`. Its size is not stored, so more is read until it is complete."""
    for length in _HEADER_BYTES:
        data = os.pread(file, length, at)
        try:
            fields, end = _struct(data, 0, 0)
            break
        except IndexError:
            continue
    else:
        raise NotInPlace("a page header of more than 1 MB")
    try:
        kind = fields[1]
        inner = fields[{_DATA_PAGE: 5, _DICTIONARY_PAGE: 7, _DATA_PAGE_V2: 8}.get(kind, 0)]
        encoding = inner[4] if kind == _DATA_PAGE_V2 else inner[2]
        levels = (inner[6], inner[5]) if kind == _DATA_PAGE_V2 else None
        page = _Page(kind, inner[1], encoding, at + end, fields[3], levels)
        of_levels = inner[3] if kind == _DATA_PAGE else _RLE
    except (KeyError, TypeError) as error:
        raise NotInPlace("a page header without the usual fields") from error
    numbers = (page.count, page.encoding, page.size, of_levels, *(levels or ()))
    if not all(type(number) is int for number in numbers) or of_levels != _RLE:
        raise NotInPlace("a page header with unusual fields")
    return page


def _present(file: int, page: _Page, max_level: int) -> tuple[np.ndarray, int]:
    """Which rows of a data page have a value, and the file offset at which the values begin."""
    if page.kind == _DICTIONARY_PAGE:
        return np.ones(0, bool), page.start
    if page.levels:
        repetition, length = page.levels
        start = page.start + repetition
    elif max_level:
        repetition, length = 0, int.from_bytes(os.pread(file, 4, page.start), "little")
        start = page.start + 4
    else:
        repetition, length, start = 0, 0, page.start
    if min(repetition, length) < 0 or start + length > page.end:
        raise NotInPlace("levels longer than their page")
    if not max_level:
        return np.ones(page.count, bool), start + length
    data = np.frombuffer(os.pread(file, length, start), np.uint8)
    return _hybrid(data, max_level.bit_length(), page.count) == max_level, start + length


def _indices(file: int, start: int, end: int, count: int, words: int) -> np.ndarray:
    """`count` indices into a dictionary of `words` values, in the bytes [start, end) of the file."""
    data = np.frombuffer(os.pread(file, end - start, start), np.uint8)
    width = int(data[0]) if data.size else 0
    if width > _WIDEST:
        raise NotInPlace(f"indices of {width} bits")
    indices = _hybrid(data[1:], width, count)
    if count and int(indices.max()) >= words:
        raise NotInPlace("an index beyond the end of the dictionary")
    return indices


def _walk(file: int, start: int, end: int, count: int, offsets: list[int], lengths: list[int]) -> None:
    """Append where each of `count` length-prefixed values from `start` lies."""
    if count > (end - start) // 4:
        raise NotInPlace("more values than fit into their page")
    # small values are read in large pieces, which takes fewer calls; of large values only the lengths are read
    ahead = _WALKED_AT_ONCE if count and (end - start) // count <= _SMALL else 4
    at, data, base = start, b"", start
    for _ in range(count):
        place = at - base
        if place + 4 > len(data):
            data, base, place = os.pread(file, ahead, at), at, 0
        length = int.from_bytes(data[place : place + 4], "little")
        offsets.append(at + 4)
        lengths.append(length)
        at += 4 + length
        if at > end:
            raise NotInPlace("a value longer than its page")


def _hybrid(data: np.ndarray, width: int, count: int) -> np.ndarray:
    """`count` integers of `width` bits from runs of one value and groups of eight packed values (Encodings.md, RLE)."""
    values = np.zeros(count, np.int64)
    if not width:
        return values
    weights = np.left_shift(1, np.arange(width), dtype=np.int64)
    step = (width + 7) // 8
    raw = data.tobytes()
    at = done = 0
    try:
        while done < count:
            header, at = _varint(raw, at)
            if header & 1:
                size = (header >> 1) * width
                if size > len(data) - at:
                    raise NotInPlace("runs that end too early")
                bits = np.unpackbits(data[at : at + size], bitorder="little").reshape(-1, width)
                run = bits[: count - done] @ weights
                at += size
            else:
                run = np.full(min(header >> 1, count - done), int.from_bytes(raw[at : at + step], "little"))
                at += step
                if at > len(data):
                    raise NotInPlace("runs that end too early")
            values[done : done + len(run)] = run
            done += len(run)
            if not len(run):
                raise NotInPlace("an empty run")
    except IndexError as error:
        raise NotInPlace("runs that end too early") from error
    return values


def _struct(data: bytes, at: int, depth: int) -> tuple[dict[int, Any], int]:
    """A struct in Thrift's compact protocol, by field number, and where it ends. It is inside `depth` other structs.

    Raises IndexError if `data` ends first.
    """
    if depth > _DEEPEST:
        raise NotInPlace("a page header with structs too deep inside each other")
    fields: dict[int, Any] = {}
    number = 0
    while True:
        head = data[at]
        at += 1
        if not head:
            return fields, at
        kind, delta = head & 15, head >> 4
        if delta:
            number += delta
        else:
            raw, at = _varint(data, at)
            number = _unzigzag(raw)
        fields[number], at = _value(data, at, kind, depth)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if kind in (1, 2):  # true, false
        return kind == 1, at
    if kind == 3:  # byte
        return data[at], at + 1
    if kind in (4, 5, 6):  # int16, int32, int64
        raw, at = _varint(data, at)
        return _unzigzag(raw), at
    if kind == 7:  # double
        return None, at + 8
    if kind == 8:  # binary
        length, at = _varint(data, at)
        if at + length > len(data):
            raise IndexError
        return None, at + length
    if kind == 12:
        return _struct(data, at, depth + 1)
    raise NotInPlace(f"a page header with a field of type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """An unsigned number of up to 64 bits, seven in each byte, and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise NotInPlace("a number of more than 64 bits")


def _unzigzag(raw: int) -> int:
    return raw >> 1 ^ -(raw & 1)


class LocalFile:
    """An open file. It stays readable after the file is removed, and is closed when this object is collected."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._mapped: np.ndarray | None = None

    def read_into(self, room: np.ndarray, offset: int) -> None:
        """Fill `room`, uint8, from `offset` on. Raises OSError if the file ends first."""
        done = os.preadv(self.descriptor, [room.data], offset)
        while done < room.size:
            more = os.preadv(self.descriptor, [room[done:].data], offset + done)
            if not more:
                raise OSError(f"found the file's end at {offset + done}, expected {room.size - done} bytes more")
            done += more

    def mapped(self) -> np.ndarray:
        """The whole file as a memory-mapped uint8 array, which uses only the system's page cache.

        Its pages are mapped all at once, which costs a third of mapping them one by one on first use.
        """
        if self._mapped is None:
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            self._mapped = np.frombuffer(mmap.mmap(self.descriptor, 0, flags=flags, prot=mmap.PROT_READ), np.uint8)
        return self._mapped

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
