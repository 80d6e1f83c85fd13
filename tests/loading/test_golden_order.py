"""The order, number by number. If code or a library changed it, a resumed run would be a different run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from headrace.loading import ShardLoader


def test_the_order_of_a_small_table(table_of: Callable[[list[int]], Path]) -> None:
    loader = ShardLoader(table_of([4, 3, 5]), batch_size=6, seed=7, lanes=2, window=2, epochs=2)
    assert [batch["sample_id"].tolist() for batch in loader] == [
        [5, 8, 1, 7, 3, 9],
        [0, 11, 4, 6, 2, 10],
        [7, 3, 10, 6, 0, 1],
        [11, 5, 8, 4, 9, 2],
    ]
