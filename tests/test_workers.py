"""A training worker needs neither Java nor Spark: every module that it can load imports without them."""

import configparser
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ABSENT = ("pyspark", "py4j", "headrace", "__editable__")
FOLDERS = {"headrace.jobs": "jobs"}
NEED_SPARK = {"headrace.jobs.build", "headrace.jobs.emoji", "headrace.jobs.threads"}
# Imports each module named on standard input, and prints those that failed and why.
IMPORT_ALL = """
import importlib, json, sys, traceback
failed = {}
for name in json.load(sys.stdin):
    try:
        importlib.import_module(name)
    except BaseException:
        failed[name] = traceback.format_exc()
json.dump(failed, sys.stdout)
"""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A worker's environment: all installed packages except pyspark and py4j, headrace without udfs, and no Java."""
    packages = tmp_path_factory.mktemp("worker")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(ABSENT):
            os.symlink(entry, packages / entry.name)
    house = packages / "headrace"
    house.mkdir()
    for entry in (*(ROOT / "pipelines").iterdir(), ROOT / "jobs"):
        os.symlink(entry, house / entry.name)
    return {"PATH": "", "PYTHONPATH": str(packages)}


def python(code: str, worker: dict[str, str], cwd: Path, text: str = "") -> subprocess.CompletedProcess[str]:
    # -S leaves out the site-packages of this interpreter: only what PYTHONPATH names can be imported.
    command = [sys.executable, "-S", "-c", code]
    return subprocess.run(command, env=worker, cwd=cwd, input=text, capture_output=True, text=True, check=False)


def modules() -> list[str]:
    """Every module of the rooms in setup.cfg's contract without Spark, and the jobs that start no Spark session."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    rooms = setup["importlinter:contract:without-spark"]["source_modules"].split()
    names = ["headrace"]
    for room in (*rooms, "headrace.jobs"):
        path = ROOT / FOLDERS.get(room, f"pipelines/{room.removeprefix('headrace.')}")
        files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
        for file in files:
            inside = file.relative_to(path.parent).with_suffix("").parts
            names.append(".".join(("headrace", *inside)).removesuffix(".__init__"))
    return sorted({*names} - NEED_SPARK)


@pytest.mark.parametrize("name", ["pyspark", "py4j", "headrace.udfs"])
def test_the_environment_lacks_what_spark_needs(worker: dict[str, str], tmp_path: Path, name: str) -> None:
    done = python(f"import {name}", worker, tmp_path)
    assert f"ModuleNotFoundError: No module named '{name}'" in done.stderr


def test_the_environment_lacks_java(worker: dict[str, str], tmp_path: Path) -> None:
    done = python("import os, shutil; print(shutil.which('java'), os.environ.get('JAVA_HOME'))", worker, tmp_path)
    assert done.stdout == "None None\n", done.stderr


def test_every_module_of_a_worker_can_be_imported(worker: dict[str, str], tmp_path: Path) -> None:
    names = modules()
    assert {"headrace.training.trainer", "headrace.systems.gan", "headrace.jobs.train", "headrace.errors"} <= {*names}
    done = python(IMPORT_ALL, worker, tmp_path, json.dumps(names))
    assert done.returncode == 0, done.stderr
    failed = json.loads(done.stdout)
    assert not failed, "\n".join(failed.values())
