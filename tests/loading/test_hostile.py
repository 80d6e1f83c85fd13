"""Damaged files: whatever their bytes say, reading them is quick, takes little memory, and gives the values or a line."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.errors import DataError
from headrace.images.formats import BadImage
from headrace.images.pixels import decode
from headrace.loading.shard.budget import Budget
from headrace.loading.shard.columns import Numbers, fields_of
from headrace.loading.shard.pages import NotInPlace, byte_arrays, fixed_width
from headrace.loading.shard.read import Selection, read_shard
from headrace.loading.table.plan import Plan, plan
from tests.images.files import FILES, png_of
from tests.loading.shard_tables import png

ROWS = 60
LARGEST = 200 << 20
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 1 << 16, 1 << 20, 1 << 24, 1 << 28, (1 << 30) + 1, (1 << 31) - 1, (1 << 32) - 1)


@contextmanager
def bounded() -> Iterator[None]:
    """Fail if the body hangs or takes more than 200 MB."""

    def hung(*_: object) -> None:
        raise AssertionError("this hangs")

    before = signal.signal(signal.SIGALRM, hung)
    signal.alarm(20)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    held = _status("VmRSS")
    try:
        yield
        assert _status("VmHWM") - held < LARGEST
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


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
        footer = len(self.data) - 8 - self.metadata.serialized_size
        self.parts = [(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.total_compressed_size)
                      for chunk in chunks]
        self.footer = (footer, len(self.data) - footer)
        self.plan: Plan = plan(str(folder))
        names = [name for name in self.plan.schema.names if name not in ("image", "condition")]
        fields = {key: one for name in names for key, one in fields_of(self.plan.schema.field(name), False).items()}
        self.selection = Selection(fields, ("image", "condition"), None, None, 0, "sample_id")

    def harm(self, seed: int, footer: bool) -> bytes:
        """Write the file with harms, in its pages or in its footer."""
        harmed = mutated(self.data, [self.footer] if footer else self.parts, seed)
        self.path.write_bytes(harmed)
        return harmed

    def read(self, keep: bool) -> None:
        """Read the file as a loader does, up to the values of every row. Raises DataError."""
        shard = read_shard(self.plan, 0, self.selection, Budget(1 << 30), keep)
        for pictures in shard.pictures.values():
            for number in np.unique(pictures.picture_of_row[pictures.picture_of_row >= 0]).tolist():
                pictures.encoded.encoded_bytes(number)
        for name, field in self.selection.fields.items():
            shape = field.kind.shape if isinstance(field.kind, Numbers) else ()
            assert int(np.prod(shape or ())) <= 12
