"""The wheel holds the jar, and an installed wheel finds it."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(command, check=True)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_jar_and_the_classes_are_in_it(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        files.extract("udfs/jars/headrace-udfs.jar", tmp_path)
        assert "pipelines/evaluation/report.html" in files.namelist()
    with zipfile.ZipFile(tmp_path / "udfs/jars/headrace-udfs.jar") as jar:
        assert "headrace/Captions.class" in jar.namelist()


def test_an_installed_wheel_finds_its_jar(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        files.extractall(tmp_path)
    code = "import headrace.udfs.jar; print(headrace.udfs.jar.path())"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()) == tmp_path / "udfs/jars/headrace-udfs.jar"
