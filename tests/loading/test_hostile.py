"""Damaged files: whatever their bytes say, reading them takes little memory and gives the values, or one line."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.errors import DataError
from headrace.images.formats import BadImage
from headrace.images.pixels import decode
from headrace.loading.shard.budget import Budget
from headrace.loading.shard.columns import fields_of
from headrace.loading.shard.memory import Memory
from headrace.loading.shard.pages import NotInPlace, byte_arrays, fixed_width
from headrace.loading.shard.read import Selection, read_shard
from headrace.loading.table.plan import Plan, plan
from tests.bounded import bounded
from tests.images.files import FILES, png_of
from tests.loading.shard_tables import png

ROWS = 60
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 1 << 16, 1 << 20, 1 << 24, 1 << 28, (1 << 30) + 1, (1 << 31) - 1, (1 << 32) - 1)


def varint(number: int) -> bytes:
    """A number as page headers have it, seven bits in each byte."""
    encoded = bytearray()
    while number >= 128:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def mutated(data: bytes, starts: list[tuple[int, int]], seed: int) -> bytes:
    """`data` with one to three harms, most of them in the first bytes of one of the parts (offset, length)."""
    rng = np.random.default_rng(seed)
    harmed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        start, length = starts[rng.integers(0, len(starts))]
        at = start + int(rng.integers(0, min(length, 50) if rng.random() < 0.7 else length))
        number = int(rng.choice(NUMBERS))
        new = (bytes([rng.integers(0, 256)]), bytes([number & 255]), varint(number), number.to_bytes(4, "little"))
        chosen = new[rng.integers(0, 4)]
        harmed[at : at + len(chosen)] = chosen
    return bytes(harmed)


def columns() -> pa.Table:
    """Columns of every kind that is used in place, and of the kinds that are not."""
    rng = np.random.default_rng(0)
    images = pa.array([png(number, 8) for number in range(20)], pa.binary())
    rows = pa.array(np.repeat(np.arange(20), 3), pa.int32())
    fixed = pa.py_buffer(rng.integers(0, 256, ROWS * 12, np.uint8).tobytes())
    return pa.table(
        {
            "sample_id": pa.array(np.arange(ROWS)),
            "caption": pa.array([None if number % 7 == 0 else f"caption {number}" for number in range(ROWS)]),
            "image": pa.DictionaryArray.from_arrays(rows, images).cast(pa.binary()),
            "condition": pa.array([png(number, 4, 1) if number % 5 else None for number in range(ROWS)], pa.binary()),
            "embedding": pa.array(list(rng.random((ROWS, 8), np.float32)), pa.list_(pa.float32())),
            "raw": pa.FixedSizeBinaryArray.from_buffers(pa.binary(12), ROWS, [None, fixed]),
        }
    )


class Victim:
    """A file to harm: its bytes, where its columns are, and how a loader reads it."""

    def __init__(self, folder: Path, compression: str, version: str) -> None:
        self.path = folder / "a.parquet"
        pq.write_table(
            columns(),
            self.path,
            compression=compression,
            data_page_version=version,
            use_dictionary=["image", "caption"],
            data_page_size=512,
            write_batch_size=8,
        )
        self.data = self.path.read_bytes()
        self.metadata = pq.read_metadata(self.path)
        chunks = [self.metadata.row_group(0).column(number) for number in range(self.metadata.num_columns)]
        self.parts = [
            (chunk.dictionary_page_offset or chunk.data_page_offset, chunk.total_compressed_size) for chunk in chunks
        ]
        self.plan: Plan = plan(str(folder))
        names = [name for name in self.plan.schema.names if name not in ("image", "condition")]
        fields = {key: one for name in names for key, one in fields_of(self.plan.schema.field(name)).items()}
        self.selection = Selection(fields, ("image", "condition"), None, None, 0, "sample_id")

    def harm(self, seed: int) -> bytes:
        """Write the file with harms in its pages."""
        harmed = mutated(self.data, self.parts, seed)
        self.path.write_bytes(harmed)
        return harmed

    def read(self, keep: bool) -> None:
        """Read the file as a loader does, up to the values of every row. Raises DataError."""
        shard = read_shard(self.plan, 0, self.selection, Budget(1 << 30), keep)
        for pictures in shard.pictures.values():
            for number in np.unique(pictures.picture_of_row[pictures.picture_of_row >= 0]).tolist():
                pictures.encoded.encoded_bytes(number)
        for name, field in self.selection.fields.items():
            room = field.kind.allocate(ROWS, Memory(0))
            field.kind.gather(shard.values[name], np.arange(ROWS), room, slice(0, ROWS))


@pytest.fixture(params=[("none", "1.0"), ("none", "2.0")], ids=["v1", "v2"])
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Victim:
    return Victim(tmp_path, *request.param)


def in_place(victim: Victim, data: bytes, name: str) -> list[bytes | None] | None:
    """The values of a column as they are found in place; None if they cannot be used so."""
    file = os.open(victim.path, os.O_RDONLY)
    try:
        if name == "raw":
            runs = fixed_width(file, victim.metadata, name)
            return [data[at + 12 * row : at + 12 * row + 12] for at, count in runs for row in range(count)]
        found = byte_arrays(file, victim.metadata, name)
    except NotInPlace:
        return None
    finally:
        os.close(file)
    places = list(zip(found.offsets.tolist(), found.lengths.tolist(), strict=True))
    assert all(at + length <= len(data) for at, length in places)
    every = [data[at : at + length] for at, length in places]
    return [None if number < 0 else every[number] for number in found.value_of_row.tolist()]


def check_in_place(victim: Victim, seeds: range) -> None:
    """What is found in place in damaged pages is what pyarrow finds, where it reads them."""
    used = 0
    for seed in seeds:
        data = victim.harm(seed)
        for name in ("image", "condition", "raw"):
            with bounded():
                found = in_place(victim, data, name)
            if found is None:
                continue
            try:
                column = pq.ParquetFile(victim.path, metadata=victim.metadata).read([name]).column(0)
            except (pa.ArrowException, OSError):
                continue
            assert found == column.to_pylist(), (seed, name)
            used += 1
    assert used > len(seeds)


def test_damaged_pages_give_the_values_that_pyarrow_finds_or_none(plain: Victim) -> None:
    check_in_place(plain, range(200))


@pytest.mark.slow
def test_many_damaged_pages_give_the_values_that_pyarrow_finds_or_none(plain: Victim) -> None:
    check_in_place(plain, range(200, 20_000))


def check_reading(victim: Victim, seeds: range) -> None:
    """A damaged file is read, or is a DataError of one line."""
    refused = 0
    for seed in seeds:
        victim.harm(seed)
        message = None
        with bounded():
            try:
                victim.read(keep=bool(seed % 3))
            except DataError as error:
                message = f"{type(error).__name__} {error}"
        if message is not None:
            refused += 1
            assert message.startswith(f"DataError {victim.path}"), seed
            assert "\n" not in message, seed
    assert refused > len(seeds) // 4


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_a_damaged_file_is_one_line(tmp_path: Path, compression: str) -> None:
    check_reading(Victim(tmp_path, compression, "2.0" if compression == "snappy" else "1.0"), range(100))


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
def test_many_damaged_files_are_one_line(tmp_path: Path, compression: str, version: str) -> None:
    check_reading(Victim(tmp_path, compression, version), range(100, 20_000))


def thrift(*fields: tuple[int, int, bytes]) -> bytes:
    """A struct in Thrift's compact protocol of (number, type, bytes), in the order of their numbers."""
    before, made = 0, b""
    for number, kind, content in fields:
        made += bytes([(number - before) << 4 | kind]) + content
        before = number
    return made + b"\0"


def i32(number: int) -> bytes:
    return varint((number << 1 ^ number >> 31) & 0xFFFFFFFF)


def header(count: int, size: int, encoding: int = 0, levels: int = 3) -> bytes:
    """The header of a data page of version 1."""
    inner = thrift((1, 5, i32(count)), (2, 5, i32(encoding)), (3, 5, i32(levels)), (4, 5, i32(3)))
    return thrift((1, 5, i32(0)), (2, 5, i32(size)), (3, 5, i32(size)), (5, 12, inner))


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (header(9, 63) + b"\3\0\0\0abc" * 9, None),
        (header(9, -1) + b"\3\0\0\0abc" * 9, "beyond the end of its column"),
        (header(9, 1 << 30) + b"\3\0\0\0abc" * 9, "beyond the end of its column"),
        (header(-1, 63) + b"\3\0\0\0abc" * 9, "more values than rows"),
        (header(1 << 30, 63) + b"\3\0\0\0abc" * 9, "more values than rows"),
        (header(8, 63) + b"\3\0\0\0abc" * 9, "fewer values than rows"),
        (header(9, 21) + b"\3\0\0\0abc" * 3, "more values than fit into their page"),
        (header(9, 63, 8) + b"\x21" + bytes(62), "indices of 33 bits"),
        (header(9, 63, 8) + b"\1\x12\0" + bytes(60), "an index beyond the end of the dictionary"),
        (header(9, 63, 8) + b"\x20\xff\xff\xff\x0f" + bytes(58), "runs that end too early"),
        (header(9, 63, 8) + b"\1" + bytes(62), "an empty run"),
        (b"\x1c" * 2000, "structs too deep inside each other"),
        (b"\x15" + b"\xff" * 2000, "a number of more than 64 bits"),
        (thrift((1, 12, b"\0"), (2, 5, i32(1)), (3, 12, b"\0")), "a page header without the usual fields"),
        (thrift((1, 5, i32(0)), (3, 12, b"\0"), (5, 12, header(9, 9))), "unusual fields"),
    ],
)
def test_every_number_in_a_page_header_is_checked(tmp_path: Path, page: bytes, reason: str | None) -> None:
    """A column of nine values without nulls, whose page is replaced."""
    path = tmp_path / "a.parquet"
    schema = pa.schema([pa.field("x", pa.binary(), nullable=False)])
    table = pa.table([pa.array([b"abc" * 1000] * 9, pa.binary())], schema=schema)
    pq.write_table(table, path, compression="none", use_dictionary=False, write_statistics=False)
    metadata = pq.read_metadata(path)
    chunk = metadata.row_group(0).column(0)
    start = chunk.data_page_offset
    filling = chunk.total_compressed_size - len(page)
    if reason is None or reason == "fewer values than rows":  # a page of no values fills the rest
        page += header(0, filling - len(header(0, filling)))
    data = bytearray(path.read_bytes())
    data[start : start + len(page)] = page
    path.write_bytes(data)
    with bounded(), path.open("rb") as file:
        if reason is None:
            assert byte_arrays(file.fileno(), metadata, "x").lengths.tolist() == [3] * 9
        else:
            with pytest.raises(NotInPlace, match=reason):
                byte_arrays(file.fileno(), metadata, "x")


def chunks_of(data: bytes) -> list[int]:
    """Where the chunks of a PNG begin, as far as their lengths lead."""
    starts, at = [], 8
    while at + 12 <= len(data):
        starts.append(at)
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return starts


def mutated_png(seed: int) -> bytes:
    """A PNG with one to three harms to lengths, sizes and contents of its chunks, mostly with the right checksums."""
    rng = np.random.default_rng(seed)
    names = [name for name in FILES if name.startswith("png")]
    data = bytearray(FILES[names[seed % len(names)]])
    for _ in range(rng.integers(1, 4)):
        at = int(rng.choice(chunks_of(data)))
        number = int(rng.choice([*NUMBERS, 1 << 14, 1 << 31, len(data) - at])).to_bytes(4, "big")
        harm = rng.integers(0, 4)
        if harm == 3:
            kind = (b"tRNS", b"PLTE", b"acTL", b"fcTL", b"fdAT", b"iCCP", b"zTXt", b"IDAT")[rng.integers(0, 8)]
            content = rng.bytes(int(rng.integers(0, 40)))
            data[at:at] = len(content).to_bytes(4, "big") + kind + content + bytes(4)
        elif harm == 2:
            data[rng.integers(8, len(data))] = rng.integers(0, 256)
        else:
            place = at + (0 if harm == 0 else 8 + 4 * int(rng.integers(0, 3)))
            data[place : place + 4] = number
    for at in chunks_of(data) if rng.random() < 0.7 else ():
        end = at + 8 + int.from_bytes(data[at : at + 4], "big")
        if end + 4 <= len(data):
            data[end : end + 4] = zlib.crc32(data[at + 4 : end]).to_bytes(4, "big")
    return bytes(data)


def check_pngs(seeds: range) -> None:
    decoded = 0
    for seed in seeds:
        data = np.frombuffer(mutated_png(seed), np.uint8)
        with bounded():
            try:
                decode(data, "rgb" if seed % 2 else "gray", lambda height, width: (8, 8))
                decoded += 1
            except BadImage:
                continue
    assert decoded > len(seeds) // 20


def test_damaged_pngs_are_decoded_or_bad() -> None:
    check_pngs(range(300))


@pytest.mark.slow
def test_many_damaged_pngs_are_decoded_or_bad() -> None:
    check_pngs(range(300, 20_000))


@pytest.mark.parametrize(("bits", "colour_type", "channels"), [(1, 0, 1), (8, 3, 1), (8, 2, 3), (16, 6, 4)])
def test_a_png_with_too_few_bytes_for_its_pixels_is_never_decoded(bits: int, colour_type: int, channels: int) -> None:
    """A byte of deflate's gives 1,032 bytes at most, so this file of 3 kB cannot have 2²⁸ pixels."""
    data = bytearray(png_of(np.zeros((1, 1, 1)), 8, 0))
    data[16:26] = (1 << 14).to_bytes(4, "big") * 2 + bytes([bits, colour_type])
    data[33:33] = (3000).to_bytes(4, "big") + b"tEXt" + bytes(3004)
    with bounded(), pytest.raises(BadImage, match="truncated"):
        decode(np.frombuffer(bytes(data), np.uint8), "rgb")
    # one colour all over compresses as far as that
    whole = cv2.imencode(".png", np.zeros((2000, 2000), np.uint8), [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    assert len(whole) < 6000
    assert decode(whole, "gray").shape == (2000, 2000)
