"""The console script: jobs by name, exit statuses, no traceback for what a user can mend."""

import subprocess
import sys
from pathlib import Path

import pytest

from headrace.jobs.cli import JOBS, main
from headrace.jobs.run import exit_status


def headrace(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "headrace"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_help_names_every_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(job in shown for job in JOBS)


def test_an_unknown_job_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trian"]) == 2
    assert "'trian'" in capsys.readouterr().err


@pytest.mark.parametrize("job", ["build", "train"])
def test_a_misspelt_key_is_one_line_and_status_2(tmp_path: Path, job: str) -> None:
    (tmp_path / "recipe.yaml").write_text("dataset: {sorce: {table: emoji}}\n")
    done = headrace(job, "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "dataset.sorce" in done.stderr
    assert "source" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize("job", ["build", "train", "sample", "report"])
def test_no_argument_is_one_line_and_status_2(tmp_path: Path, job: str) -> None:
    done = headrace(job, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_ctrl_c_is_one_line_and_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(argv: object) -> None:
        raise KeyboardInterrupt

    assert exit_status(interrupted, []) == 130
    assert capsys.readouterr().err == "headrace: interrupted\n"


@pytest.mark.parametrize("job", JOBS)
def test_every_job_says_how_it_is_used(capsys: pytest.CaptureFixture[str], job: str) -> None:
    assert main([job, "--help"]) == 0
    assert f"Usage: headrace {job}" in capsys.readouterr().out


def test_a_reader_that_has_had_enough_is_no_error(tmp_path: Path) -> None:
    script = (
        "import sys; from headrace.jobs import run; sys.exit(run.exit_status(lambda argv: print('y' * 10_000_000), []))"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
