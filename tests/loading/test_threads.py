"""Threads always end, a stuck read is reported, and memory stays within its limit."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace.loading import ShardLoader
from headrace.loading import loader as loader_module
from headrace.loading.feed.stats import Stats
from headrace.loading.feed.threads import Pool
from headrace.loading.shard.budget import Budget, Lease
from tests.loading.shard_tables import captioned, commit

# A shell starts its background jobs with SIGINT ignored, and their children inherit that.
WITH_A_LOOP = """
import signal, sys, time
from headrace.loading import ShardLoader
signal.signal(signal.SIGINT, signal.default_int_handler)
batches = iter(ShardLoader(sys.argv[1], batch_size=4, size=8, epochs=None, threads=2))
next(batches)
print("begun", flush=True)
"""


@pytest.fixture
def child(emoji: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """A function that runs Python code with the path of a table. What still runs after the test is killed."""
    with contextlib.ExitStack() as started:

        def start(code: str) -> subprocess.Popen[str]:
            command = [sys.executable, "-c", code, str(emoji)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            started.enter_context(process)
            started.callback(process.kill)
            return process

        yield start


def test_a_process_with_an_unfinished_loop_ends(child: Callable[[str], subprocess.Popen[str]]) -> None:
    process = child(WITH_A_LOOP)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (0, "begun\n", "")


def test_control_c_ends_a_loop(child: Callable[[str], subprocess.Popen[str]]) -> None:
    process = child(WITH_A_LOOP + "for batch in batches:\n    time.sleep(0.001)\n")
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert err.strip().endswith("KeyboardInterrupt")
    assert "Fatal" not in err


def test_a_stuck_read_times_out_and_shows_every_thread(emoji: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()

    def stuck(*arguments: object) -> object:
        release.wait(60)
        raise OSError("let go")

    monkeypatch.setattr(loader_module, "read_shard", stuck)
    monkeypatch.setattr("headrace.loading.feed.threads.JOIN_SECONDS", 0.1)
    with pytest.raises(TimeoutError, match=r"no batch for 0\.2 seconds") as caught:
        next(iter(ShardLoader(emoji, batch_size=4, timeout=0.2)))
    release.set()
    assert "thread headrace-read-0" in str(caught.value)
    assert "release.wait(60)" in str(caught.value)


def test_memory_stays_within_its_limit_and_flat(tmp_path: Path) -> None:
    path = commit(tmp_path / "t", captioned(80, 3, 8))
    largest = max(file.stat().st_size for file in path.glob("*.parquet"))
    limit = 7 * largest
    loader = ShardLoader(path, batch_size=8, lanes=1, memory=limit, threads=2)
    peaks = []
    for _ in range(5):
        assert sum(len(batch["caption"]) for batch in loader) == 240
        peaks.append(loader.stats.bytes_peak)
    assert 0 < peaks[-1] <= limit


def test_a_lease_gives_its_bytes_back_when_it_is_forgotten() -> None:
    budget = Budget(100)
    lease = Lease(budget, 60)
    assert not lease.try_grow(41)
    assert lease.try_grow(40)
    assert (budget.held, budget.peak) == (100, 100)
    del lease
    assert budget.held == 0


def test_a_pool_forgets_what_has_not_begun() -> None:
    pool = Pool(1, "test-pool")
    began = threading.Event()
    done: list[int] = []

    def first() -> None:
        began.set()
        pool._closed.wait(60)
        done.append(1)

    pool.submit(first)
    assert began.wait(60)
    pool.submit(lambda: done.append(2))
    pool.close()
    assert done == [1]


def test_the_bottleneck_is_what_the_others_wait_for() -> None:
    assert Stats(busy_seconds=95, wait_seconds=5, decode_seconds=60).bottleneck() == "trainer"
    assert Stats(busy_seconds=94, wait_seconds=6, decode_seconds=60, read_seconds=50).bottleneck() == "decoding"
    assert Stats(busy_seconds=94, wait_seconds=6, decode_seconds=50, read_seconds=60).bottleneck() == "reading"


def test_a_loop_is_measured(table_of: Callable[[list[int]], Path]) -> None:
    loader = ShardLoader(table_of([50, 50]), batch_size=10)
    for _ in loader:
        time.sleep(0.02)
    numbers = loader.stats.as_dict()
    assert numbers["samples"] == 100
    assert numbers["batches"] == 10
    assert numbers["busy_seconds"] >= 10 * 0.02
    assert numbers["wait_seconds"] > 0
    assert "100 samples" in str(loader.stats)
