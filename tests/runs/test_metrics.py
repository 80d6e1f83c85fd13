"""metrics.jsonl: complete lines, truncated to a step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headrace.errors import DataError
from headrace.runs.metrics import MetricsFile


def written(path: Path, steps: int) -> MetricsFile:
    metrics = MetricsFile(path)
    for step in range(1, steps + 1):
        metrics.write({"step": step, "loss": 1 / step})
    return metrics


def test_a_line_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    metrics = written(tmp_path / "metrics.jsonl", 2)
    assert [json.loads(line) for line in metrics.path.read_text().splitlines()] == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 0.5},
    ]


@pytest.mark.parametrize("tail", ["", '{"step": 6, "lo', '{"step": 6}\n{"st'])
@pytest.mark.parametrize("step", [0, 3, 5])
def test_truncation_keeps_the_steps_of_the_checkpoint(tmp_path: Path, step: int, tail: str) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 5).close()
    lines = path.read_text().splitlines(keepends=True)
    with path.open("a") as file:
        file.write(tail)
    metrics = MetricsFile(path)
    metrics.truncate(step)
    assert path.read_text() == "".join(lines[:step])
    metrics.write({"step": step + 1})
    assert path.read_text() == "".join(lines[:step]) + f'{{"step": {step + 1}}}\n'


def test_missing_steps_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    written(path, 5).close()
    with pytest.raises(DataError, match="found 5 whole lines, expected those of the checkpoint's 6 steps"):
        MetricsFile(path).truncate(6)
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if '"step": 2' not in line))
    before = path.read_text()
    with pytest.raises(DataError, match="expected step 2"):
        MetricsFile(path).truncate(4)
    assert path.read_text() == before


def test_there_is_no_nan_in_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        MetricsFile(tmp_path / "metrics.jsonl").write({"loss": float("nan")})
