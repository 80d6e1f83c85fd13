"""Tables that several tests read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.loading.shard_tables import captioned, commit, numbered


@pytest.fixture(scope="session")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 images with 3 captions each in 4 shards."""
    return commit(tmp_path_factory.mktemp("emoji") / "table", captioned(40, 3, 4))


@pytest.fixture(scope="session")
def table_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[list[int]], Path]:
    """A function that makes a numbered table, once for each list of rows per shard."""
    made: dict[tuple[int, ...], Path] = {}

    def get(counts: list[int]) -> Path:
        key = tuple(counts)
        if key not in made:
            made[key] = commit(tmp_path_factory.mktemp("numbered") / "table", numbered(counts))
        return made[key]

    return get
