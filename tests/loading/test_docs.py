"""The examples of docs/loading.md run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "loading.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_page_has_its_examples() -> None:
    assert len(EXAMPLES) >= 14


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int, emoji: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {"path": emoji, "tmp_path": tmp_path}
    exec("from headrace.loading import ShardLoader", names)
    exec(compile(EXAMPLES[number], f"docs/loading.md, example {number + 1}", "exec"), names)
