"""The console script: jobs by name, arguments, exit statuses, no traceback for what you can fix yourself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import headrace as package
from headrace.errors import RecipeError
from headrace.jobs import arguments
from headrace.jobs.arguments import Parser
from headrace.jobs.cli import JOBS, main
from headrace.jobs.run import exit_status, run_job

ROOT = Path(__file__).parents[2]
MODULES = [*JOBS, "emoji", "fashion", "torchrun"]


def headrace(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "import sys; from headrace.jobs.cli import main; sys.exit(main())", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_help_names_every_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {job} " in shown for job in JOBS)


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"headrace {package.__version__}\n"


@pytest.mark.parametrize(
    ("given", "found"), [([], "nothing"), (["trian"], "'trian'"), (["--dry-run", "build"], "'--dry-run'")]
)
def test_no_job_or_an_unknown_one_is_one_line(given: list[str], found: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given) == 2
    error = capsys.readouterr().err
    assert error.startswith("headrace: argument")
    assert f"found {found}, expected " in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("job", ["build", "train"])
def test_a_misspelt_key_is_one_line_and_status_2(tmp_path: Path, job: str) -> None:
    (tmp_path / "recipe.yaml").write_text("dataset: {sorce: {table: emoji}}\n")
    done = headrace(job, "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "dataset.sorce" in done.stderr
    assert "source" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize("job", ["build", "train", "sample", "evaluate", "export", "report"])
@pytest.mark.parametrize("columns", ["40", "200"])
def test_no_argument_is_one_line_and_status_2(
    job: str, columns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert main([job]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("headrace: argument ")
    assert f": found nothing, expected headrace {job} [-h]" in shown.err
    assert shown.err.count("\n") == 1


@pytest.mark.parametrize("job", MODULES)
def test_help_says_how_a_job_is_used_and_loads_neither_torch_nor_spark(job: str, tmp_path: Path) -> None:
    code = (
        f"import sys; from headrace.jobs import {job}; status = {job}.main(['--help'])\n"
        "print([name for name in ('torch', 'pyspark', 'py4j') if name in sys.modules]); sys.exit(status)"
    )
    environment = {**os.environ, "COLUMNS": "40"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0].startswith("usage: headrace " if job in JOBS else "usage: python -m headrace.jobs.")
    assert lines[-1] == "[]", "what --help has imported"
    assert "examples:" in lines
    assert "  2    the recipe or an argument is wrong" in lines


@pytest.mark.parametrize(
    ("module", "folder"), [("headrace.jobs.sample", "/"), ("jobs.sample", str(ROOT)), ("jobs/sample.py", str(ROOT))]
)
def test_a_job_runs_as_a_module_and_as_a_script(module: str, folder: str) -> None:
    command = [module] if module.endswith(".py") else ["-m", module]
    done = subprocess.run([sys.executable, *command, "--help"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: headrace sample")


@pytest.fixture
def parser() -> Parser:
    """A parser for a recipe, overrides, and options of each kind."""
    made = Parser("headrace try", "Try.")
    made.recipe()
    modes = made.add_mutually_exclusive_group()
    modes.add_argument("--dry-run", action="store_true")
    made.value_after_equals(modes, "--overfit", "STEPS", "200", arguments.positive, "steps")
    made.add_argument("--ranks", type=arguments.positive)
    return made


@pytest.mark.parametrize(
    "given",
    [
        ["--overfit", "a.yaml", "b.c=1", "d=[e, f]", "--ranks", "2"],
        ["a.yaml", "--overfit", "b.c=1", "--ranks=2", "d=[e, f]"],
        ["--ranks", "2", "a.yaml", "b.c=1", "d=[e, f]", "--overfit"],
    ],
)
def test_options_stand_before_between_or_after_the_other_arguments(parser: Parser, given: list[str]) -> None:
    found = parser.parse(given)
    assert (found.recipe, found.overrides) == ("a.yaml", ["b.c=1", "d=[e, f]"])
    assert (found.overfit, found.ranks, found.dry_run) == (200, 2, False)
    assert parser.parse(["a.yaml", "--overfit=50"]).overfit == 50
    assert parser.parse(["a.yaml"]).overfit is None


WRONG = {
    (): "argument RECIPE: found nothing, expected headrace try [-h]",
    ("a.yaml", "--dry"): "argument: found '--dry', expected headrace try [-h] [--dry-run | --overfit[=STEPS]] ",
    ("a.yaml", "-x"): "argument: found '-x', expected headrace try [-h]",
    ("a.yaml", "--dry-run=yes"): "argument --dry-run: found 'yes', expected no value",
    ("a.yaml", "--overfit=0"): "argument --overfit: found '0', expected a whole number from 1",
    ("a.yaml", "--overfit=many"): "argument --overfit: found 'many', expected a whole number from 1",
    ("a.yaml", "--ranks"): "argument --ranks: found nothing, expected a value",
    ("a.yaml", "--ranks=-1"): "argument --ranks: found '-1', expected a whole number from 1",
    ("a.yaml", "--overfit", "--dry-run"): "argument --dry-run: found it together with --overfit, expected one of them",
    ("--dry-run", "a.yaml", "--overfit=9"): "argument --overfit: found it together with --dry-run, expected one of",
}


@pytest.mark.parametrize("given", WRONG)
@pytest.mark.parametrize("columns", ["30", "200"])
def test_wrong_arguments_are_one_line(
    parser: Parser, given: tuple[str, ...], columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    with pytest.raises(RecipeError) as error:
        parser.parse(given)
    assert str(error.value).startswith(WRONG[given])
    assert "\n" not in str(error.value)


def test_wrong_arguments_end_a_job_with_2_and_no_usage(parser: Parser, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_job(lambda arguments: pytest.fail("it ran"), parser, ["a.yaml", "--ranks"]) == 2
    assert capsys.readouterr() == ("", "headrace: argument --ranks: found nothing, expected a value\n")


def test_a_job_that_is_started_as_a_script_hides_no_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "jobs"), *sys.path])
    assert run_job(lambda arguments: None, Parser("headrace x", "About.", []), []) == 0
    assert str(ROOT / "jobs") not in sys.path


def test_ctrl_c_is_one_line_and_status_130(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert exit_status(interrupted) == 130
    assert capsys.readouterr().err == "headrace: interrupted\n"


def test_a_reader_that_closes_the_pipe_is_no_error(tmp_path: Path) -> None:
    script = "import sys; from headrace.jobs import run; sys.exit(run.exit_status(lambda: print('y' * 10_000_000)))"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(1)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


def test_a_closed_stdout_is_no_failure(tmp_path: Path) -> None:
    command = 'exec "$0" -m headrace.jobs.cli --version >&-'
    done = subprocess.run(["sh", "-c", command, sys.executable], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("place", ["file/below", "file"])
def test_a_place_that_cannot_be_written_is_one_line(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert exit_status((tmp_path / place).mkdir) == 1
    shown = capsys.readouterr().err
    assert shown.startswith(f"headrace: {tmp_path / place}: found ")
    assert shown.count("\n") == 1
