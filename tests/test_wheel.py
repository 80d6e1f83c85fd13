"""The wheel in a clean environment, run in the folder of a user with their own `jobs/`, `pipelines/` and `udfs/`."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from tests.tiny_runs import recipe_of, write_images

ROOT = Path(__file__).parents[1]
OWN = 'raise ImportError("this package is its owner\'s, and headrace imported it")\n'


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel, and with links to everything else that is installed here."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=False, symlinks=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(("__editable__", "headrace")) and entry.suffix != ".pth":
            (packages / entry.name).symlink_to(entry)
    command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install"]
    subprocess.run([*command, "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    return folder / "bin" / "python"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A user's folder, with packages that have the names of our folders."""
    for name in ("jobs", "pipelines", "udfs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(OWN)
    return tmp_path


def run(python: Path, project: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the environment in the user's folder, which is on Python's path as in a notebook."""
    variables = {"PATH": os.environ["PATH"], "PYTHONPATH": str(project), "PYSPARK_PYTHON": str(python)}
    variables |= {name: os.environ[name] for name in ("JAVA_HOME", "HOME", "TMPDIR") if name in os.environ}
    program = str(python) if command[0] == "python" else str(python.parent / command[0])
    return subprocess.run([program, *command[1:]], cwd=project, env=variables, capture_output=True, text=True)


def test_the_wheel_holds_every_file_of_the_folders(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        names = {name for name in files.namelist() if name.startswith("headrace/")}
    folders = {"pipelines": "headrace", "jobs": "headrace/jobs", "udfs": "headrace/udfs"}
    expected = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in folders.items()
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".html", ".typed"} and "java" not in path.parts
    }
    assert names == expected | {"headrace/udfs/jars/headrace-udfs.jar"}


def test_build_train_and_sample(python: Path, project: Path) -> None:
    write_images(project / "source")
    recipe = recipe_of(project / "data", project / "runs" / "tiny", steps=2)
    recipe["dataset"] = {
        "source": {"path": "source"},
        "udfs": ["headrace.Captions"],
        "query": "SELECT image, clean(caption) AS caption FROM source LATERAL VIEW explode(captions) c AS caption",
        "shuffle": {"key": "id", "seed": 1},
        "output": {"path": "data"},
    }
    recipe["spark"] = {"spark.master": "local[1]", "spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "1"}
    (project / "tiny.yaml").write_text(yaml.safe_dump(recipe))
    for command in (["build", "tiny.yaml"], ["train", "tiny.yaml"], ["sample", "runs/tiny"]):
        done = run(python, project, "headrace", *command)
        assert done.returncode == 0, done.stderr
    assert (project / "runs" / "tiny" / "samples" / "grid.png").stat().st_size > 0


def test_its_types_are_seen_by_the_users_mypy(python: Path, project: Path) -> None:
    (project / "load.py").write_text(
        "from headrace.loading import ShardLoader\n"
        'reveal_type(ShardLoader("data", batch_size=4).epoch_samples)\n'
        'ShardLoader("data", batch_size="four")\n'
    )
    skipped = "".join(f"[mypy-{name}.*]\nfollow_imports = skip\n" for name in ("torch", "numpy", "cv2", "rich"))
    (project / "mypy.ini").write_text(f"[mypy]\n{skipped}")  # they take most of the time and do not matter here
    done = run(python, project, "python", "-m", "mypy", "load.py")
    assert 'load.py:2: note: Revealed type is "int"' in done.stdout, done.stdout + done.stderr
    assert 'load.py:3: error: Argument "batch_size" to "ShardLoader" has incompatible type' in done.stdout
    assert "Found 1 error" in done.stdout


@pytest.mark.parametrize("code", ["import pipelines", "import jobs.build", "import udfs"])
def test_the_users_packages_stay_the_users(python: Path, project: Path, code: str) -> None:
    done = run(python, project, "python", "-c", f"import headrace.jobs.cli\n{code}")
    assert "this package is its owner's" in done.stderr
