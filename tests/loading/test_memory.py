"""`memory` bounds what a loader holds, by what shards take in memory: compressed or not, text or numbers."""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.loading import ShardLoader
from headrace.loading.feed.collate import Pending
from headrace.loading.shard.columns import Text
from headrace.loading.shard.footprint import Footprint, largest

SHARDS, ROWS = 40, 500
LIMIT = 8 << 20


def repeated(length: int) -> Any:
    """A column whose values compress to almost nothing: shards of 1 to 2 MB in memory take some kB on disk."""
    return [bytes([number % 200]) * length for number in range(ROWS)]


COLUMNS: dict[str, Any] = {
    "embeddings": lambda shard: pa.array([[float(shard)] * 512] * ROWS, pa.list_(pa.float32())),
    "texts": lambda shard: pa.array([f"{number} " + "text " * 500 for number in range(ROWS)]),
    "texts of two words": lambda shard: pa.array([("a" if number % 2 else "b") * 20_000 for number in range(ROWS)]),
    "bytes": lambda shard: pa.array(repeated(3000), pa.binary()),
    "structs": lambda shard: pa.array([{"text": f"{number} " + "word " * 500} for number in range(ROWS)]),
    "small integers": lambda shard: pa.array([shard % 100] * 400 * ROWS, pa.int8()),
}


def write(folder: Path, column: Any, shards: int = SHARDS) -> Path:
    folder.mkdir()
    for shard in range(shards):
        values = column(shard)
        pq.write_table(pa.table({"x": values}), folder / f"{shard:02}.parquet", compression="zstd")
    return folder


@pytest.mark.parametrize("kind", COLUMNS)
def test_what_is_held_stays_within_the_limit(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "t", COLUMNS[kind])
    assert sum(file.stat().st_size for file in path.iterdir()) < LIMIT // 2
    before = pa.total_allocated_bytes()
    loader = ShardLoader(path, batch_size=100, memory=LIMIT, threads=1, epochs=2, columns=["x"])
    held = 0
    for number, batch in enumerate(loader):
        held = max(held, pa.total_allocated_bytes() - before)
        if number == 300:
            break
        del batch
    assert held <= LIMIT
    assert loader.stats.bytes_peak <= LIMIT


def test_compressed_images_are_planned_by_their_bytes_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path / "t", COLUMNS["bytes"])
    loader = ShardLoader(path, batch_size=10, memory=LIMIT, decode={"x": "gray"}, size=8)
    assert loader.lanes == 4  # of 200 images of 3 kB each, in a third of the memory
    assert ShardLoader(path, batch_size=10, memory=LIMIT << 6, decode={"x": "gray"}, size=8).lanes == SHARDS


@pytest.mark.parametrize("kind", COLUMNS)
def test_what_is_expected_is_what_is_held(tmp_path: Path, kind: str) -> None:
    """Within a factor of two upwards, and never less by more than a tenth."""
    path = write(tmp_path / "t", COLUMNS[kind], 1)
    loader = ShardLoader(path, batch_size=10, columns=["x"], epochs=2)
    footer, size = largest(loader._plan)
    expected = Footprint(footer, size, loader._plan, loader._selection).growth(in_place=True) * size
    kinds = [field.kind for field in loader._selection.fields.values()]
    column = pq.read_table(path / "00.parquet", read_dictionary=["x"] if "text" in kind or kind == "bytes" else None)
    held = sum(kind.nbytes(kind.load(column.column("x"), "here")) for kind in kinds)
    assert 0.9 * held <= expected <= 2 * held


def test_text_counts_what_its_strings_take() -> None:
    strings = [f"{number} é" * 20 for number in range(3000)]
    kind = Text()
    exact = sum(map(sys.getsizeof, strings)) + 8 * len(strings)
    assert kind.nbytes(kind.load(pa.chunked_array([strings]), "")) == pytest.approx(exact, rel=0.02)
    few = pa.chunked_array([["a" * 1000, None, "b" * 1000] * 1000]).dictionary_encode()
    values = kind.load(few, "")
    assert kind.nbytes(values) < 20_000
    room = kind.allocate(3, None)  # type: ignore[arg-type]
    kind.gather(values, np.array([0, 1, 2]), room, slice(0, 3))
    assert kind.finish(room) == ["a" * 1000, None, "b" * 1000]


def test_a_batch_is_freed_without_the_garbage_collector(emoji: Path) -> None:
    gc.collect()
    gc.disable()
    try:
        others = [one for one in gc.get_objects() if isinstance(one, Pending)]  # of loaders that other tests hold
        for batch in ShardLoader(emoji, batch_size=10, size=8):
            del batch
        known = {id(one) for one in others}
        left = [one for one in gc.get_objects() if isinstance(one, Pending) and id(one) not in known]
    finally:
        gc.enable()
    assert len(left) <= 1
