"""The examples in docs/samplers.md run, one after the other."""

import re
from pathlib import Path
from typing import Any

import torch

PAGE = (Path(__file__).parents[2] / "docs" / "samplers.md").read_text(encoding="utf-8")


def test_the_examples_run() -> None:
    torch.manual_seed(0)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 4
    defined: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/samplers.md", "exec"), defined)
