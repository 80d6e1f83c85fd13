"""A training worker has neither Java nor Spark: an environment without them, made of the same packages."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ABSENT = ("pyspark", "py4j", "udfs", "__editable__")


@pytest.fixture(scope="session")
def worker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a worker: all installed packages but pyspark and py4j, no java on PATH, no JAVA_HOME."""
    packages = tmp_path_factory.mktemp("worker")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(ABSENT):
            os.symlink(entry, packages / entry.name)
    for room in ("headrace", "jobs"):
        os.symlink(ROOT / room, packages / room)
    return {"PATH": "", "PYTHONPATH": str(packages)}


def python(code: str, environment: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    # -S leaves out the site-packages of this interpreter: only what PYTHONPATH names can be imported.
    command = [sys.executable, "-S", "-c", code]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)


def test_the_environment_has_neither(worker: dict[str, str], tmp_path: Path) -> None:
    for name in ("pyspark", "py4j", "udfs"):
        done = python(f"import {name}", worker, tmp_path)
        assert "ModuleNotFoundError" in done.stderr
    assert python("import shutil; print(shutil.which('java'))", worker, tmp_path).stdout == "None\n"


MODULES = [
    "headrace.training",
    "headrace.loading",
    "headrace.evaluation",
    "headrace.jobs.train",
    "headrace.jobs.sample",
    "headrace.jobs.report",
]


@pytest.mark.parametrize("module", MODULES)
def test_imports(worker: dict[str, str], tmp_path: Path, module: str) -> None:
    done = python(f"import {module}", worker, tmp_path)
    assert done.returncode == 0, done.stderr
