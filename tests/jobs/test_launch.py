"""How a run is launched and how it ends: torchrun, Spark's distributor, examples for schedulers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from headrace.recipe import load_run_recipe
from tests.jobs.launched import ENVIRONMENT, ROOT, SECONDS, children, torchrun, wait_for_steps
from tests.tiny_runs import losses, write_dataset

EXAMPLES = ROOT / "examples"


@pytest.fixture
def long_run(recipe: Path, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Two ranks in the middle of a run that would take minutes to finish."""
    run = folder / "long"
    shutil.rmtree(run, ignore_errors=True)
    process = torchrun(recipe, f"training.run={run}", "training.steps=100000", "training.checkpoint_every=99999")
    wait_for_steps(process, run, 3)
    yield process
    process.kill()
    process.communicate()


def test_a_rank_that_dies_ends_the_job(long_run: subprocess.Popen[str]) -> None:
    """The other rank does not wait for it for ever, and the launcher names the dead rank and what killed it."""
    os.kill(children(long_run)[-1], signal.SIGKILL)
    _, errors = long_run.communicate(timeout=SECONDS)
    assert long_run.returncode != 0
    assert "Signal 9 (SIGKILL) received by PID" in errors
    assert "local_rank: 1" in errors


def test_sigterm_to_the_launcher_saves_and_ends_with_143(long_run: subprocess.Popen[str], folder: Path) -> None:
    """A scheduler's signal reaches every rank, and their exit status reaches the scheduler."""
    long_run.terminate()
    long_run.communicate(timeout=SECONDS)
    assert long_run.returncode == 143
    steps = len(losses(folder / "long"))
    assert (folder / "long" / "checkpoints" / f"step-{steps:08d}" / "state.json").exists()


def test_a_wrong_recipe_ends_the_job_with_2(recipe: Path) -> None:
    process = torchrun(recipe, "data.path=nowhere")
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 2
    assert "headrace: data.path: found no dataset at nowhere" in errors


@pytest.mark.slow
def test_the_message_of_a_rank_that_fails_is_shown(recipe: Path, folder: Path) -> None:
    """One rank finds a shard missing."""
    write_dataset(folder / "broken")
    next((folder / "broken").glob("*.parquet")).unlink()
    process = torchrun(recipe, f"training.run={folder / 'fails'}", f"data.path={folder / 'broken'}")
    _, errors = process.communicate(timeout=SECONDS)
    assert process.returncode != 0
    assert "[rank" in errors
    assert ".parquet" in errors


@pytest.mark.slow
def test_ranks_as_tasks_of_spark(recipe: Path, folder: Path) -> None:
    """Two barrier tasks of local[2] give the losses of one process. A wrong recipe is one line before Spark starts."""
    code = "import sys; from headrace.jobs.train import main; sys.exit(main(sys.argv[1:]))"
    spark = "spark={spark.master: 'local[2]', spark.ui.enabled: 'false'}"
    command = [sys.executable, "-c", code, str(recipe), spark, f"training.run={folder / 'spark'}"]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT), "PYSPARK_PYTHON": sys.executable}
    options = ["--launcher", "spark", "--ranks", "2"]
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Finished distributed training with 2 executor processes" in done.stderr + done.stdout
    alone = subprocess.run(
        [*command[:-1], f"training.run={folder / 'alone'}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert alone.returncode == 0, alone.stderr
    assert losses(folder / "spark") == pytest.approx(losses(folder / "alone"), abs=1e-6)
    wrong = subprocess.run([*command, *options, "data.path=nowhere"], env=environment, capture_output=True, text=True)
    assert wrong.returncode == 2
    assert "found no dataset at nowhere" in wrong.stderr
    many = subprocess.run([*command, "--launcher=spark", "--ranks=4"], env=environment, capture_output=True, text=True)
    assert many.returncode == 2
    assert "argument --ranks: found 4, expected at most the 2 tasks that Spark runs at a time" in many.stderr


def test_the_example_for_slurm() -> None:
    """The script names a launcher and a recipe that exist, and requests a signal before its time is up."""
    script = EXAMPLES / "train.slurm"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    text = script.read_text()
    assert {"--requeue", "--signal=TERM@60"} <= set(text.split())
    assert "jobs/train.py" in text
    stub = 'scontrol() { echo "$@" >&2; [ "$1" = show ] && echo node1; }; srun() { echo "$@"; return 143; };'
    stub += "export -f scontrol srun;"
    environment = {**os.environ, "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    command = ["bash", "-c", f"{stub} bash {script} recipes/emoji-gpu.yaml training.steps=5"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 143
    assert done.stdout.split()[-3:] == ["jobs/train.py", "recipes/emoji-gpu.yaml", "training.steps=5"]
    assert "--rdzv-endpoint=node1:29500" in done.stdout
    assert "requeue 7" in done.stderr


def test_the_example_for_kubernetes() -> None:
    """`headrace train` accepts the command in it."""
    job = yaml.safe_load((EXAMPLES / "train.pytorchjob.yaml").read_text())
    worker = job["spec"]["pytorchReplicaSpecs"]["Worker"]
    assert worker["restartPolicy"] == "ExitCode"
    *launcher, script, recipe, override = worker["template"]["spec"]["containers"][0]["command"]
    assert launcher == ["python", "-m", "headrace.jobs.torchrun"]
    assert (ROOT / script).is_file()
    loaded = load_run_recipe(str(ROOT / recipe), [override])
    assert loaded.training.parallel == "fsdp"
