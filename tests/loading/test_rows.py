"""Which row shows an image in an epoch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import DataError
from headrace.loading import ShardLoader
from headrace.loading.shard.rows import OneRowPerImage, WeightedRowPerImage, count_images
from tests.loading.shard_tables import commit, numbered

keys_of_rows = st.lists(st.integers(-1, 5), min_size=1, max_size=30).map(lambda keys: np.array(keys, np.int64))


@given(keys_of_rows, st.integers(0, 2**32))
def test_rows_of_an_image_take_turns(keys: np.ndarray, seed: int) -> None:
    images = OneRowPerImage(keys, seed, 0)
    assert images.count == count_images(keys) == len(set(keys[keys >= 0])) + (keys < 0).sum()
    most = 30
    seen = np.array([images.rows(np.arange(images.count), epoch) for epoch in range(most)])
    assert set(seen.ravel()) == set(range(len(keys)))
    for image in range(images.count):
        rows = seen[:, image]
        turns = len(set(rows))
        assert len(set(keys[rows])) == 1
        assert np.array_equal(rows[turns:], rows[:-turns])


def test_weighted_rows_come_in_proportion() -> None:
    keys, weights = np.array([0, 0, 0, 1, 1]), np.array([1.0, 2.0, 0.0, 3.0, 1.0])
    images = WeightedRowPerImage(keys, weights, 1, 0)
    epochs = 4000
    counts = np.bincount(np.concatenate([images.rows(np.arange(2), epoch) for epoch in range(epochs)]), minlength=5)
    expected = np.array([1 / 3, 2 / 3, 0, 3 / 4, 1 / 4])
    assert np.abs(counts / epochs - expected).max() < 5 * np.sqrt(0.25 / epochs)
    assert counts[2] == 0


@pytest.mark.parametrize(
    ("weights", "message"), [([1.0, -1.0, 1.0], "a weight that is negative"), ([0.0, 0.0, 1.0], "weights are all 0")]
)
def test_weights_that_cannot_be_drawn_by_name_their_file(tmp_path: Path, weights: list[float], message: str) -> None:
    table = numbered([3])[0].append_column("image_id", [["a", "a", "b"]]).append_column("weight", [weights])
    path = commit(tmp_path / "t", [table])
    with pytest.raises(DataError, match=rf"part-00000\.parquet: column weight: found .*{message}"):
        list(ShardLoader(path, batch_size=1, captions="weighted", image_key="image_id", weight="weight"))


def test_weighted_captions_of_a_table(tmp_path: Path) -> None:
    table = numbered([4])[0].append_column("image_id", [["a", "a", "b", "b"]])
    table = table.append_column("weight", pa.array([0, 5, 1, None], pa.int32()))
    loader = ShardLoader(
        commit(tmp_path / "t", [table]),
        columns=["sample_id"],
        batch_size=2,
        captions="weighted",
        image_key="image_id",
        weight="weight",
        epochs=3,
    )
    assert [sorted(batch["sample_id"].tolist()) for batch in loader] == [[1, 2]] * 3
