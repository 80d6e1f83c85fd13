"""Two ranks on this machine, launched as you would launch them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
SECONDS = 240
"""how long a test waits for a process; only a stuck one takes longer"""


def torchrun(
    recipe: Path, *overrides: str, launcher: str = "headrace.jobs.torchrun", restarts: int = 0
) -> subprocess.Popen[str]:
    """Start two ranks of `jobs/train.py` under `python -m launcher`."""
    options = ["--standalone", "--nproc-per-node", "2", "--max-restarts", str(restarts)]
    command = [sys.executable, "-m", launcher, *options, str(ROOT / "jobs" / "train.py"), str(recipe), *overrides]
    return subprocess.Popen(
        command, env=ENVIRONMENT, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for_steps(process: subprocess.Popen[str], run: Path, steps: int) -> None:
    """Wait until the run has recorded `steps` steps. Fails if the process ends first."""
    metrics = run / "metrics.jsonl"
    deadline = time.monotonic() + SECONDS
    while not metrics.exists() or metrics.read_text().count("\n") < steps:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, f"no {steps} steps within {SECONDS} seconds"
        time.sleep(0.001)


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes that `process` started, in the order of their start."""
    return [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
