"""Buckets, dropped captions, hooks, devices: each gives the same batches after a resume."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from headrace.errors import DataError, RecipeError
from headrace.loading import Mixture, ShardLoader
from headrace.loading.shard.geometry import Buckets
from tests.loading.shard_tables import commit, numbered

SIZES = [(16, 16), (12, 24), (24, 12)]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 images of three shapes in 5 shards, each with a condition that equals the image."""
    rng = np.random.default_rng(0)
    sides = [((20, 20), (18, 36), (40, 20))[number] for number in rng.integers(0, 3, 300)]
    images = [cv2.imencode(".png", np.full((*side, 3), 9 * side[0] % 256, np.uint8))[1].tobytes() for side in sides]
    table = numbered([300])[0].append_column("image", [images]).append_column("condition", [images])
    table = table.append_column("shape", [[f"{height}x{width}" for height, width in sides]])
    return commit(tmp_path_factory.mktemp("shapes") / "t", [table.slice(start, 60) for start in range(0, 300, 60)])


def test_the_bucket_is_the_one_nearest_in_shape() -> None:
    buckets = Buckets(SIZES)
    assert [buckets.nearest(*size) for size in [(100, 100), (100, 120), (50, 99), (99, 50), (1, 9)]] == [0, 0, 1, 2, 1]


def test_batches_hold_images_of_one_shape_mostly(shapes: Path) -> None:
    loader = ShardLoader(shapes, batch_size=6, buckets=SIZES, drop_last=False)
    expected = {"20x20": (16, 16), "18x36": (12, 24), "40x20": (24, 12)}
    fitting, seen = 0, []
    for batch in loader:
        assert batch["condition"].shape[2:] == batch["image"].shape[2:]
        assert tuple(batch["image"].shape[2:]) in SIZES
        fitting += sum(expected[shape] == tuple(batch["image"].shape[2:]) for shape in batch["shape"])
        seen += batch["sample_id"].tolist()
    assert sorted(seen) == list(range(300))
    # of 16 batches, those where two buckets meet hold a few images of the other bucket
    assert fitting > 0.9 * 300


def test_buckets_resume_anywhere(shapes: Path) -> None:
    def loader() -> ShardLoader:
        return ShardLoader(shapes, batch_size=5, buckets=SIZES, epochs=2, crop="random")

    whole = [(batch["sample_id"].tolist(), batch["image"]) for batch in loader()]
    assert len(whole) == 120
    for done in (1, 15, 16, 17, 70):
        first = loader()
        begun = iter(first)
        list(islice(begun, done))
        begun.close()
        second = loader()
        second.load_state_dict(json.loads(json.dumps(first.state_dict())))
        rest = [(batch["sample_id"].tolist(), batch["image"]) for batch in second]
        assert [ids for ids, _ in rest] == [ids for ids, _ in whole[done:]]
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(rest, whole[done:], strict=True))
    with pytest.raises(RecipeError, match=r"batch_size \(found 4, expected 5\)"):
        ShardLoader(shapes, batch_size=4, buckets=SIZES, epochs=2, crop="random").load_state_dict(first.state_dict())


def test_buckets_and_a_size_exclude_each_other(shapes: Path) -> None:
    with pytest.raises(RecipeError, match=r"buckets: found .* with size=8"):
        ShardLoader(shapes, batch_size=4, buckets=SIZES, size=8)


def dropped(path: Path, **settings: object) -> dict[int, tuple[str | None, bool, bool]]:
    drop = {"caption": 0.25, "condition": 0.5}
    found = {}
    for batch in ShardLoader(path, **{"batch_size": 12, "size": 8, "drop": drop, **settings}):
        for place, sample in enumerate(batch["sample_id"].tolist()):
            assert batch["condition_mask"][place] == ~batch["condition_dropped"][place]
            assert batch["condition_mask"][place] or not batch["condition"][place].any()
            caption = batch["caption"][place]
            found[sample] = (caption, bool(batch["caption_dropped"][place]), bool(batch["condition_dropped"][place]))
    return found


def test_captions_are_dropped_by_seed_epoch_and_sample_alone(emoji: Path) -> None:
    one = dropped(emoji)
    assert len(one) == 120
    assert all(caption is None for caption, gone, _ in one.values() if gone)
    assert one == dropped(emoji, batch_size=5, threads=3, lanes=2)
    assert one != dropped(emoji, seed=1)
    shares = np.mean([flags[1:] for flags in dropped(emoji, epochs=1).values()], 0)
    assert np.abs(shares - [0.25, 0.5]).max() < 5 * np.sqrt(0.25 / 120)
    both = [gone for _, gone, _ in one.values()], [gone for _, _, gone in one.values()]
    assert abs(np.corrcoef(*both)[0, 1]) < 0.4
    again = ShardLoader(emoji, batch_size=120, size=8, drop={"caption": 0.25}, epochs=2)
    first, second = (dict(zip(b["sample_id"].tolist(), b["caption_dropped"].tolist(), strict=True)) for b in again)
    assert first != second


def test_numbers_keep_their_value_and_tell_that_they_are_dropped(tmp_path: Path) -> None:
    table = numbered([50])[0].append_column("label", [list(range(50))])
    batch = next(iter(ShardLoader(commit(tmp_path / "t", [table]), batch_size=50, drop={"label": 0.5})))
    assert torch.equal(batch["label"], batch["sample_id"])
    assert 5 < batch["label_dropped"].sum() < 45


def test_what_cannot_be_dropped_is_named(emoji: Path) -> None:
    with pytest.raises(RecipeError, match="drop: found 'image', expected one of condition, sample_id"):
        ShardLoader(emoji, batch_size=4, drop={"image": 0.1})
    with pytest.raises(RecipeError, match=r"drop\['caption'\]: found 1.5, expected a share"):
        ShardLoader(emoji, batch_size=4, drop={"caption": 1.5})


def test_the_sample_hook_makes_each_sample(emoji: Path) -> None:
    def hook(sample: dict) -> dict:
        assert sample["image"].shape == (3, 8, 8)
        return {
            "mean": sample["image"].float().mean((1, 2)),
            "id": int(sample["sample_id"]) * 2,
            "words": (sample["caption"] or "").split(),
        }

    seen = []
    for batch in ShardLoader(emoji, batch_size=10, size=8, sample_hook=hook, threads=2):
        assert batch["mean"].shape == (10, 3)
        assert batch["id"].dtype == torch.int64
        assert isinstance(batch["words"][0], list)
        seen += batch["id"].tolist()
    assert sorted(seen) == list(range(0, 240, 2))


def test_an_error_in_a_hook_reaches_the_caller(emoji: Path) -> None:
    def hook(sample: dict) -> dict:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        next(iter(ShardLoader(emoji, batch_size=10, size=8, sample_hook=hook)))
    with pytest.raises(LookupError, match="mine"):
        next(iter(ShardLoader(emoji, batch_size=10, size=8, hook=hook)))


def test_tensors_are_on_the_device_and_the_state_is_that_of_the_batch_in_use(
    table_of: Callable[[list[int]], Path],
) -> None:
    path = table_of([9, 8, 7])
    loader = ShardLoader(path, batch_size=4, device="meta")
    states = []
    for batch in loader:
        assert batch["sample_id"].device.type == "meta"
        states.append(loader.state_dict()["position"])
    assert states == [4, 8, 12, 16, 20, 24]
    on_cpu = [batch["sample_id"].tolist() for batch in ShardLoader(path, batch_size=4, device="cpu")]
    assert on_cpu == [batch["sample_id"].tolist() for batch in ShardLoader(path, batch_size=4)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batches_on_a_gpu_are_those_on_the_cpu(emoji: Path) -> None:
    settings = {"batch_size": 10, "size": 8}
    for here, there in zip(ShardLoader(emoji, **settings), ShardLoader(emoji, device="cuda", **settings), strict=True):
        assert there["image"].device.type == "cuda"
        assert torch.equal(here["image"], there["image"].cpu())


ODD = [None, True, -1, 0, 1.5, float("nan"), float("inf"), 10**30, "x", b"x", [], {}, (8, 8), [8], [(8, "x")], {1: 2}]
ODD += [["image"], {"image": 1}, {"caption": "rgb"}, {"caption": float("nan")}, {"caption": "x"}, [None], object()]


@pytest.mark.parametrize("name", list(inspect.signature(ShardLoader.__init__).parameters)[1:])
def test_odd_values_of_every_argument_are_one_line(emoji: Path, name: str) -> None:
    """Each value makes a loader, or is refused in one line that names the argument or the file."""
    needs = {"image_key": {"captions": "one_per_image"}, "weight": {"captions": "weighted"}, "buckets": {"size": None}}
    for value in ODD:
        arguments = {"path": emoji, "batch_size": 4, "size": 8, **needs.get(name, {}), name: value}
        try:
            ShardLoader(**arguments)
            message = ""
        except (RecipeError, DataError) as error:
            message = str(error)
        assert "\n" not in message, value


def test_lengths_of_time_and_numbers_of_threads_have_limits(emoji: Path) -> None:
    for wrong in ({"threads": 10**9}, {"version": -1}, {"timeout": float("inf")}, {"size": 10**6}, {"device": "x"}):
        (name,) = wrong
        with pytest.raises(RecipeError, match=f"^{name}: found "):
            ShardLoader(emoji, batch_size=4, **wrong)  # type: ignore[arg-type]
    loaders = {name: ShardLoader(emoji, batch_size=4, size=8) for name in "ab"}
    with pytest.raises(RecipeError, match=r"weights: found .*inf.* expected each above 0 and finite"):
        Mixture(loaders, weights={"a": float("inf"), "b": 1.0}, batch_size=4)


def test_what_is_no_image_and_no_folder_is_named(tmp_path: Path) -> None:
    table = numbered([3])[0].append_column("image", pa.array([[1, 2]] * 3, pa.list_(pa.uint8())))
    path = commit(tmp_path / "t", [table])
    with pytest.raises(RecipeError, match=r"decode: found column image of type list<.*>, expected binary"):
        ShardLoader(path, batch_size=1, decode={"image": "rgb"})
    with pytest.raises(DataError, match=r"part-00000.parquet: found a file, expected a folder"):
        ShardLoader(path / "part-00000.parquet", batch_size=1)
    with pytest.raises(RecipeError, match="sample_hook: found a result that is no dict"):
        next(iter(ShardLoader(path, batch_size=1, columns=["sample_id"], sample_hook=lambda sample: None)))  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("dictionary", [True, False])
def test_text_that_is_not_utf8_is_named(tmp_path: Path, dictionary: bool) -> None:
    raw = pa.array([b"good", b"\xff\xfe"] * 3, pa.binary())
    text = pa.StringArray.from_buffers(6, raw.buffers()[1], raw.buffers()[2])
    (tmp_path / "t").mkdir()
    pq.write_table(pa.table({"caption": text}), tmp_path / "t" / "a.parquet", use_dictionary=dictionary)
    with pytest.raises(DataError, match=r"a\.parquet: column caption: found damaged values: .*UTF8"):
        list(ShardLoader(tmp_path / "t", batch_size=1))
