"""A lack of files, memory or connection is never bad data; a shard that cannot be read is tried again."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from headrace.errors import DataError, Unavailable
from headrace.loading import ShardLoader
from headrace.loading.feed.shard_cache import ShardCache
from headrace.loading.feed.stats import Stats
from headrace.loading.shard.budget import Budget
from headrace.loading.table import storage
from headrace.loading.table.failures import read_error
from tests.loading.shard_tables import captioned, numbered


@contextmanager
def open_files(more: int) -> Iterator[None]:
    """Allow this process to open `more` files than it has open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(name) for name in os.listdir("/proc/self/fd")}
    free = [number for number in range(len(used) + more + 1) if number not in used]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[more], hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_too_many_open_files_lose_no_samples(tmp_path: Path) -> None:
    for number, table in enumerate(captioned(60, 1, 60)):
        pq.write_table(table, tmp_path / f"part-{number:02}.parquet", compression="none")
    loader = ShardLoader(tmp_path, batch_size=4, size=8, on_bad_sample="skip", threads=1)
    message = r"part-\d+\.parquet: cannot read now: found too many open files, expected fewer lanes"
    with open_files(20), pytest.raises(Unavailable, match=message):
        list(loader)
    assert not loader.stats.bad
    assert sum(len(batch["caption"]) for batch in ShardLoader(tmp_path, batch_size=4, size=8)) == 60


@pytest.mark.parametrize("captions", [1, 2])
@pytest.mark.parametrize("policy", ["skip", "replace"])
def test_too_little_memory_for_an_image_loses_no_samples(
    emoji: Path, policy: Any, captions: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        error = cv2.error("found none")
        error.code, error.err = cv2.Error.StsNoMem, "Failed to allocate 99 bytes"
        raise error

    monkeypatch.setattr(cv2, "imdecode", no_memory)
    loader = ShardLoader(emoji, batch_size=4 * captions, size=8, on_bad_sample=policy, shuffle=captions == 1)
    with pytest.raises(Unavailable, match=r"row \d+, column \w+: cannot read now: found too little memory \(Failed"):
        list(loader)
    assert not loader.stats.bad


@pytest.mark.parametrize("cached", [False, True])
def test_a_network_that_fails_loses_no_samples(tmp_path: Path, cached: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.001)
    files = fsspec.filesystem("memory")
    for number, table in enumerate(numbered([5, 6])):
        with files.open(f"/failing-{cached}/part-{number}.parquet", "wb") as file:
            pq.write_table(table, file)
    cache = tmp_path if cached else None
    loader = ShardLoader(f"memory://failing-{cached}", batch_size=11, on_bad_sample="skip", cache=cache, shuffle=False)

    def fail(*_: object, **__: object) -> None:
        raise OSError("the network is down")

    with monkeypatch.context() as broken:
        broken.setattr(MemoryFileSystem, "_open", fail)
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        with pytest.raises(Unavailable, match=r"parquet: cannot read now: the network is down"):
            list(loader)
    assert not loader.stats.bad
    assert next(iter(loader))["sample_id"].tolist() == list(range(11))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError("Corrupt snappy compressed data."), DataError),
        (pa.ArrowInvalid("no magic bytes"), DataError),
        (OSError(errno.EINVAL, "Invalid argument"), DataError),
        (OSError(errno.EIO, "Input/output error"), DataError),
        (OSError(errno.EMFILE, "Too many open files"), Unavailable),
        (OSError(errno.ENOSPC, "No space left on device"), Unavailable),
        (PermissionError(errno.EACCES, "Permission denied"), Unavailable),
        (ConnectionResetError("reset"), Unavailable),
        (TimeoutError("slow"), Unavailable),
        (MemoryError(), Unavailable),
        (pa.ArrowMemoryError("malloc of size 9 failed"), Unavailable),
    ],
)
def test_which_errors_tell_of_the_data(error: BaseException, kind: type[DataError]) -> None:
    found = read_error("a.parquet", error)
    assert type(found) is kind
    assert str(found).startswith("a.parquet: cannot read")


def cache(read: Any, keep: bool = False) -> ShardCache:
    return ShardCache(read, lambda number: 1, Budget(1 << 20), Stats(), growth=1.0, readers=1, keep=keep)


@pytest.mark.parametrize("keep", [False, True])
def test_a_shard_that_could_not_be_read_is_tried_again(keep: bool) -> None:
    answers: list[Any] = [DataError("missing for an instant"), "shard"]

    class Lease:
        count = 1

    class Read:
        lease = Lease()

    def read(number: int) -> Any:
        answer = answers.pop(0)
        if isinstance(answer, DataError):
            raise answer
        return Read()

    shards = cache(read, keep)
    shards.acquire(0)
    with pytest.raises(DataError, match="for an instant"):
        shards.get(0)
    shards.release(0)
    shards.acquire(0)
    assert isinstance(shards.get(0), Read)
    shards.close()


def test_a_reading_thread_that_ends_ends_those_that_wait() -> None:
    shards = cache(lambda number: "no shard")
    shards.acquire(0)
    with pytest.raises(AttributeError, match="lease"):
        shards.get(0)
    shards.close()
