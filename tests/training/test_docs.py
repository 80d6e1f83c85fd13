"""The commands in docs/training.md work, at a small size."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

from headrace.jobs.sample import main as sample
from headrace.jobs.train import main as train
from tests.tiny_runs import recipe_of, write_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
HEADRACE = [command for command in COMMANDS if command[0] == "headrace" and "--launcher" not in command]
SMALLER = {"--overfit=100": "--overfit=3", "--lr-range=60": "--lr-range=5", "training.steps=3000": "training.steps=12"}


@pytest.fixture(scope="module")
def folder(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "recipes").mkdir()
    write_recipe(folder / "recipes" / "emoji.yaml", recipe_of(dataset, Path("runs") / "emoji"))
    return folder


def test_the_page_has_its_commands() -> None:
    assert len(HEADRACE) == 6
    assert {command[0] for command in COMMANDS} == {"headrace", "torchrun"}


def test_the_commands_run_one_after_the_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for _, job, *arguments in HEADRACE:
        smaller = [SMALLER.get(argument, argument) for argument in arguments]
        if "--profile" in arguments:
            smaller.append("training.steps=20")
        assert {"train": train, "sample": sample}[job](smaller) == 0, arguments


def test_the_example_in_python_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    networks = [nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)) for _ in range(3)]
    for network in networks:
        network.blocks = list(network)
    names = dict(zip(("model", "generator", "critic"), networks, strict=True))
    exec(code, {**names, "torch": torch})
