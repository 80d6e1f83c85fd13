"""A tiny dataset, made once, and processes that start in a moment because torch is loaded already."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest
import torch

from tests.training.tiny_runs import write_dataset


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dataset") / "tiny"
    write_dataset(path)
    return path


@pytest.fixture(scope="session")
def processes() -> ForkServerContext:
    """Starts real processes from a server that has imported what training needs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["headrace.training.run", "headrace.jobs.train"])
    return context


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order, and no fight over the machine's cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
