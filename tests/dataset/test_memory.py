"""A task of the write stage holds a few times its shard in memory, whatever the number of samples."""

import subprocess
import sys
from pathlib import Path

import pytest

SHARD_MB = 100


@pytest.mark.parametrize("samples", [6_000, 200_000])
def test_a_task_holds_a_few_shards(tmp_path: Path, samples: int) -> None:
    command = [sys.executable, "-m", "tests.dataset.task", str(tmp_path), str(SHARD_MB), str(samples)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    rows, grown = done.stdout.split()
    assert int(rows) == samples
    (path, *_) = sorted(tmp_path.glob("*.parquet"), key=lambda p: -p.stat().st_size)
    assert path.stat().st_size < 1.1 * SHARD_MB * 1e6 + 20 * samples
    assert float(grown) < 4 * SHARD_MB + 0.002 * samples
