"""Builds that die: killed, out of disk space, or because a task fails.

Readers keep the previous version, and the next run succeeds.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable

from headrace.dataset.build import build
from headrace.dataset.version.vacuum import vacuum
from tests.dataset.conftest import SCHEMA, recipe, row

ROOT = Path(__file__).parents[2]
QUERY = "SELECT id, image, caption FROM source LATERAL VIEW explode(captions) t AS caption"


@pytest.fixture
def standing(spark, parquet, tmp_path: Path) -> tuple[Path, Path]:
    """A source of 300 images, and a dataset built when the source had 2."""
    source, output = parquet([row(i) for i in range(2)]), tmp_path / "out"
    build(spark, recipe(source, output, QUERY))
    pq.write_table(pa.Table.from_pylist([row(i) for i in range(300)], SCHEMA), source / "part-0.parquet")
    spark.catalog.refreshByPath(str(source))
    return source, output


def start(tmp_path: Path, source: Path, output: Path, master: str = "local[2]") -> subprocess.Popen[bytes]:
    """Start the job in its own process group, with many small shards."""
    settings = {
        "spark.master": master,
        "spark.sql.warehouse.dir": str(tmp_path / "warehouse"),
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={tmp_path}/metastore;create=true",
    }
    plan = recipe(source, output, QUERY, shards={"target_bytes": 1024}).model_dump(mode="json")
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"spark": settings, "dataset": plan}))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYSPARK_GATEWAY")}
    return subprocess.Popen(
        [sys.executable, "-m", "headrace.jobs.build", str(path)],
        cwd=ROOT,
        env=environment,
        stderr=(tmp_path / "stderr.txt").open("wb"),
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )


def wait_for_shards(job: subprocess.Popen[bytes], output: Path, count: int) -> None:
    """Wait until the job has written `count` more shards than the previous version."""
    deadline = time.monotonic() + 200
    while len(list(output.glob("shard-*.parquet"))) < count:
        assert job.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def java_of(job: subprocess.Popen[bytes]) -> int:
    """The JVM that the job started."""
    children = Path(f"/proc/{job.pid}/task/{job.pid}/children").read_text().split()
    return next(int(child) for child in children if "java" in os.readlink(f"/proc/{child}/exe"))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["all", "driver", "jvm"])
def test_killed_while_it_writes(spark, tmp_path: Path, standing: tuple[Path, Path], victim: str) -> None:
    source, output = standing
    before = len(list(output.glob("shard-*.parquet")))
    job = start(tmp_path, source, output)
    wait_for_shards(job, output, before + 5)
    jvm = java_of(job)
    if victim == "all":
        os.killpg(job.pid, signal.SIGKILL)
    else:
        os.kill(jvm if victim == "jvm" else job.pid, signal.SIGKILL)
    job.wait(timeout=60)
    if victim == "driver":
        deadline = time.monotonic() + 60
        while Path(f"/proc/{jvm}").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
    assert DeltaTable(str(output)).version() == 0
    assert DeltaTable(str(output)).to_pyarrow_table().num_rows == 4
    assert build(spark, recipe(source, output, QUERY)).version == 1
    assert DeltaTable(str(output)).to_pyarrow_table().num_rows == 600
    removed = vacuum(str(output), grace_hours=0)
    assert len(removed) >= 5 or victim == "jvm", "a driver that lives deletes what its tasks wrote"
    assert not vacuum(str(output), grace_hours=0)
    assert DeltaTable(str(output)).to_pyarrow_table().num_rows == 600


def children_of(process: int) -> list[int]:
    """The processes that any thread of `process` started."""
    found = []
    for task in Path(f"/proc/{process}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def kill_workers(jvm: int) -> int:
    """Kill the Python workers that currently run the JVM's tasks. Returns how many there were."""
    killed = 0
    for daemon in children_of(jvm):
        for worker in children_of(daemon):
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)
                killed += 1
    return killed


@pytest.mark.slow
def test_a_task_that_fails_twice_is_run_again(tmp_path: Path, standing: tuple[Path, Path]) -> None:
    source, output = standing
    before = len(list(output.glob("shard-*.parquet")))
    job = start(tmp_path, source, output, master="local[2,3]")
    wait_for_shards(job, output, before + 5)
    jvm, rounds = java_of(job), 0
    while rounds < 2:  # each round hits running tasks, so no task fails more than twice
        rounds += kill_workers(jvm) > 0
        time.sleep(0.05)
    assert job.wait(timeout=200) == 0, (tmp_path / "stderr.txt").read_text()[-2000:]
    assert "crashed" in (tmp_path / "stderr.txt").read_text(), "a task failed"
    table = DeltaTable(str(output)).to_pyarrow_table()
    assert DeltaTable(str(output)).version() == 1
    assert table.num_rows == 600
    assert len(set(table.column("sample_id").to_pylist())) == 600


@pytest.mark.slow
def test_a_task_that_fails_three_times(spark, tmp_path: Path, standing: tuple[Path, Path]) -> None:
    source, output = standing
    files = {path.name for path in output.glob("shard-*.parquet")}
    job = start(tmp_path, source, output, master="local[2,3]")
    wait_for_shards(job, output, len(files) + 5)
    jvm = java_of(job)
    while job.poll() is None:
        with contextlib.suppress(FileNotFoundError):
            kill_workers(jvm)
        time.sleep(0.01)
    assert job.returncode == 1
    assert "failed 3 times" in (tmp_path / "stderr.txt").read_text()
    assert DeltaTable(str(output)).version() == 0
    assert DeltaTable(str(output)).to_pyarrow_table().num_rows == 4
    vacuum(str(output), grace_hours=0)  # a task that was still running may have written one more
    assert {path.name for path in output.glob("shard-*.parquet")} == files
    assert build(spark, recipe(source, output, QUERY)).version == 1
    assert DeltaTable(str(output)).to_pyarrow_table().num_rows == 600


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system")
def test_a_full_disk(spark, parquet, tmp_path: Path) -> None:
    source, output = parquet([row(i) for i in range(300)]), tmp_path / "disk"
    output.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", output], check=False)
    if mounted.returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        small = recipe(source, output / "out", QUERY + " WHERE id < 'id010'")
        assert build(spark, small).version == 0
        with pytest.raises(Exception, match="No space left"):
            build(spark, recipe(source, output / "out", QUERY))
        assert DeltaTable(str(output / "out")).to_pyarrow_table().num_rows == 20
        vacuum(str(output / "out"), grace_hours=0)  # a task that was still running may have written one more
        named = {Path(uri).name for uri in DeltaTable(str(output / "out")).file_uris()}
        assert {path.name for path in (output / "out").glob("*.parquet")} == named
        assert build(spark, recipe(source, output / "out", QUERY + " WHERE id < 'id011'")).version == 1
    finally:
        subprocess.run(["umount", output], check=True)
