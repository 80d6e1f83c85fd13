"""Crops and flips: where they cut, that conditions follow their image, and that draws belong to the sample."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from headrace.errors import RecipeError
from headrace.loading import ShardLoader
from headrace.loading.shard.geometry import Crop, Geometry
from tests.bounded import bounded
from tests.loading.shard_tables import commit, numbered


def test_scaled_to_cover_keeps_the_shape() -> None:
    assert Geometry((32, 32), "centre").scaled(100, 200) == (32, 64)
    assert Geometry((32, 64), "centre").scaled(100, 100) == (64, 64)
    assert Geometry((32, 32)).scaled(100, 200) == (32, 32)
    assert Geometry().scaled(100, 200) == (100, 200)


def test_what_is_scaled_up_is_cropped_first() -> None:
    assert Geometry((32, 32), "centre").scaled(16, 20) == (16, 20)
    assert Geometry((512, 512), "random").scaled(1, 20_000) == (1, 20_000)
    assert Geometry((32, 32)).scaled(16, 20) == (32, 32)


@pytest.mark.parametrize("crop", ["centre", "random"])
@pytest.mark.parametrize(("stored", "size"), [((40, 90), (64, 64)), ((90, 41), (64, 100)), ((7, 7), (50, 20))])
def test_cropping_first_gives_what_cropping_last_gives(
    stored: tuple[int, int], size: tuple[int, int], crop: Crop
) -> None:
    """Up to half a pixel, by which the edges of the part may be rounded."""
    smooth = cv2.resize(np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8), stored[::-1], interpolation=2)
    geometry = Geometry(size, crop)
    scale = max(size[0] / stored[0], size[1] / stored[1])
    whole = cv2.resize(smooth, (round(stored[1] * scale), round(stored[0] * scale)), interpolation=cv2.INTER_AREA)
    for draw in range(20):
        first, last = np.zeros((2, 3, *size), np.uint8)
        geometry.place(smooth, first, draw)
        geometry.place(whole, last, draw)
        assert np.abs(first.astype(int) - last).mean() <= 2


@pytest.mark.parametrize("crop", ["centre", "random"])
@pytest.mark.parametrize("size", [256, 512, (512, 3)])
def test_a_long_and_narrow_image_takes_little_memory(tmp_path: Path, crop: Crop, size: int | tuple[int, int]) -> None:
    """1×20,000 pixels, whose grey level rises from left to right; and 20,000×1."""
    line = np.arange(20_000, dtype=np.float32)[None] * 255 / 20_000
    images = [cv2.imencode(".png", one)[1].tobytes() for one in (line.astype(np.uint8), line.T.astype(np.uint8))]
    path = commit(tmp_path / "t", [numbered([2])[0].append_column("image", [images])])
    with bounded():
        (batch,) = ShardLoader(path, batch_size=2, size=size, crop=crop, shuffle=False, threads=1)
    spread = batch["image"].amax((1, 2, 3)) - batch["image"].amin((1, 2, 3))
    assert spread.max() <= 4
    if crop == "centre":
        assert (batch["image"].float().mean((1, 2, 3)) - 127).abs().max() <= 2


def test_a_centre_crop_cuts_the_centre() -> None:
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    room = np.zeros((1, 8, 4), np.uint8)
    Geometry((8, 4), "centre").place(pixels, room, 0)
    assert np.array_equal(room[0], pixels[:, 2:6])


def test_random_crops_reach_every_place_equally() -> None:
    pixels = np.tile(np.arange(8, dtype=np.uint8), (4, 1))
    room = np.zeros((1, 4, 4), np.uint8)
    lefts = []
    for draw in range(2000):
        Geometry((4, 4), "random").place(pixels, room, draw)
        lefts.append(int(room[0, 0, 0]))
    counts = np.bincount(lefts, minlength=5)
    assert len(counts) == 5
    assert np.abs(counts - 400).max() < 5 * np.sqrt(400)


@pytest.fixture(scope="module")
def gradients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 images of 16×32 pixels whose grey level gives the position, each with a condition that equals the image."""
    rng = np.random.default_rng(0)
    images = [cv2.imencode(".png", rng.integers(0, 256, (16, 32), np.uint8))[1].tobytes() for _ in range(30)]
    table = numbered([30])[0].append_column("image", [images]).append_column("condition", [images])
    return commit(tmp_path_factory.mktemp("gradients") / "table", [table.slice(0, 17), table.slice(17)])


def by_id(path: Path, **settings: object) -> dict[int, torch.Tensor]:
    arguments = {"batch_size": 5, "size": 16, "crop": "random", "flip": 0.5, **settings}
    found = {}
    for batch in ShardLoader(path, **arguments):
        assert torch.equal(batch["image"].float().mean(1).round().byte(), batch["condition"][:, 0])
        found |= dict(zip(batch["sample_id"].tolist(), batch["image"], strict=True))
    return found


def test_conditions_follow_and_draws_depend_on_seed_epoch_and_sample_alone(gradients: Path) -> None:
    one = by_id(gradients)
    two = by_id(gradients, batch_size=3, threads=3, lanes=8)
    assert len(one) == len(two) == 30
    assert all(torch.equal(one[sample], two[sample]) for sample in one)
    other_seed = by_id(gradients, seed=1)
    assert sum(torch.equal(one[sample], other_seed[sample]) for sample in one) < 8
    plain = by_id(gradients, crop="centre", flip=0.0)
    mirrored = by_id(gradients, crop="centre", flip=1.0)
    assert all(torch.equal(plain[sample].flip(2), mirrored[sample]) for sample in plain)


def test_a_crop_needs_a_size(gradients: Path) -> None:
    with pytest.raises(RecipeError, match="size: found None"):
        ShardLoader(gradients, batch_size=1, crop="centre")
    with pytest.raises(RecipeError, match="flip: found 2"):
        ShardLoader(gradients, batch_size=1, flip=2.0)


def test_the_hook_sees_each_batch(gradients: Path) -> None:
    loader = ShardLoader(gradients, batch_size=10, hook=lambda batch: {"ids": batch["sample_id"] + 1})
    assert sorted(number for batch in loader for number in batch["ids"].tolist()) == list(range(1, 31))
