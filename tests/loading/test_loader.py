"""ShardLoader end to end: values, order, resume, ends of a pass, errors, threads."""

from __future__ import annotations

import contextlib
import gc
import json
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.errors import DataError, RecipeError
from headrace.images.pixels import decode
from headrace.loading import ShardLoader
from tests.loading.shard_tables import captioned, commit, numbered, png

TableOf = Callable[[list[int]], Path]
slow_examples = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_loop() -> Iterator[None]:
    yield
    gc.collect()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("headrace")] == []


def ids(loader: ShardLoader) -> list[list[int]]:
    return [batch["sample_id"].tolist() for batch in loader]


def test_a_batch_holds_tensors_and_lists(emoji: Path) -> None:
    batch = next(iter(ShardLoader(str(emoji), batch_size=16, size=8, threads=2)))
    assert (batch["image"].dtype, tuple(batch["image"].shape)) == (torch.uint8, (16, 3, 8, 8))
    assert (batch["condition"].dtype, tuple(batch["condition"].shape)) == (torch.uint8, (16, 1, 8, 8))
    assert batch["condition_mask"].all()
    assert batch["sample_id"].dtype == torch.int64
    assert batch["_position"].tolist() == list(range(16))
    assert all(isinstance(caption, str) or caption is None for caption in batch["caption"])


@pytest.mark.parametrize("size", [None, 8])
def test_values_are_those_of_the_table(emoji: Path, size: int | None) -> None:
    rows = {row["sample_id"]: row for table in captioned(40, 3, 4) for row in table.to_pylist()}
    scaled = (lambda height, width: (size, size)) if size else None
    for batch in ShardLoader(emoji, batch_size=10, size=size, threads=2):
        for place, sample in enumerate(batch["sample_id"].tolist()):
            row = rows.pop(sample)
            assert batch["caption"][place] == row["caption"]
            assert batch["image_id"][place] == row["image_id"]
            image = decode(np.frombuffer(row["image"], np.uint8), "rgb", scaled)
            assert np.array_equal(batch["image"][place].permute(1, 2, 0).numpy(), image)
            edges = decode(np.frombuffer(row["condition"], np.uint8), "gray", scaled)
            assert np.array_equal(batch["condition"][place, 0].numpy(), edges)
    assert not rows


def test_an_image_is_decoded_once_for_its_captions(emoji: Path) -> None:
    loader = ShardLoader(emoji, batch_size=8, decode={"image": "rgb"}, columns=["image"], threads=4, lanes=1)
    assert sum(len(batch["image"]) for batch in loader) == 120
    assert loader.stats.images == 40


@slow_examples
@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    world_size=st.sampled_from([1, 2, 4, 8]),
    threads=st.integers(1, 3),
    seed=st.integers(0, 1000),
)
def test_global_batches_are_the_same_for_every_world_size_and_thread_count(
    table_of: TableOf, counts: list[int], world_size: int, threads: int, seed: int
) -> None:
    path = table_of(counts)
    alone = ids(ShardLoader(path, batch_size=16, seed=seed, drop_last=False, threads=1))
    ranks = [
        ids(
            ShardLoader(
                path,
                batch_size=16 // world_size,
                seed=seed,
                drop_last=False,
                rank=rank,
                world_size=world_size,
                threads=threads,
            )
        )
        for rank in range(world_size)
    ]
    together = [sorted(number for part in parts for number in part) for parts in zip(*ranks, strict=True)]
    assert together == [sorted(batch) for batch in alone]
    assert sorted(number for batch in alone for number in batch) == list(range(sum(counts)))


def test_resume_at_every_position_equals_the_uninterrupted_run(table_of: TableOf) -> None:
    path = table_of([7, 5, 9, 3])

    def loader() -> ShardLoader:
        return ShardLoader(path, batch_size=5, seed=3, epochs=3, threads=2)

    whole = ids(loader())
    assert len(whole) == 14
    for done in range(len(whole) + 1):
        first = loader()
        begun = iter(first)
        assert [batch["sample_id"].tolist() for batch in islice(begun, done)] == whole[:done]
        state = json.loads(json.dumps(first.state_dict()))
        begun.close()
        second = loader()
        second.load_state_dict(state)
        assert len(second) == len(whole) - done
        assert ids(second) == whole[done:]


def test_resume_on_another_number_of_ranks(table_of: TableOf) -> None:
    path = table_of([7, 5, 9, 3])
    whole = ids(ShardLoader(path, batch_size=4, epochs=2))
    first = ShardLoader(path, batch_size=4, epochs=2)
    begun = iter(first)
    for _ in range(3):
        next(begun)
    begun.close()
    ranks = []
    for rank in range(2):
        second = ShardLoader(path, batch_size=2, epochs=2, rank=rank, world_size=2)
        second.load_state_dict(first.state_dict())
        ranks.append(ids(second))
    assert [sorted(a + b) for a, b in zip(*ranks, strict=True)] == [sorted(batch) for batch in whole[3:]]


def test_a_state_of_other_settings_is_refused_by_name(table_of: TableOf) -> None:
    state = ShardLoader(table_of([7, 5]), batch_size=4, seed=1).state_dict()
    with pytest.raises(RecipeError, match=r"seed \(found 2, expected 1\)$"):
        ShardLoader(table_of([7, 5]), batch_size=4, seed=2).load_state_dict(state)
    with pytest.raises(RecipeError, match=r"samples \(found 13, expected 12\), digest"):
        ShardLoader(table_of([7, 6]), batch_size=4, seed=1).load_state_dict(state)


def test_a_seek_reads_no_earlier_shard(table_of: TableOf) -> None:
    path = table_of([10] * 40)
    first = ShardLoader(path, batch_size=10, lanes=2, memory=1)
    begun = iter(first)
    for _ in range(36):
        next(begun)
    begun.close()
    second = ShardLoader(path, batch_size=10, lanes=2, memory=1)
    second.load_state_dict(first.state_dict())
    assert sum(map(len, ids(second))) == 40
    assert second.stats.shards <= 4


def test_iterating_again_is_the_next_epoch(table_of: TableOf) -> None:
    path = table_of([7, 5])
    loader = ShardLoader(path, batch_size=4)
    epochs = [ids(loader), ids(loader)]
    assert epochs[0] != epochs[1]
    assert [number for epoch in epochs for number in epoch] == ids(ShardLoader(path, batch_size=4, epochs=2))
    loader.set_epoch(0)
    assert ids(loader) == epochs[0]


def test_epochs_without_end_run_across_epochs(table_of: TableOf) -> None:
    loader = ShardLoader(table_of([2, 1]), batch_size=4, epochs=None)
    batches = list(islice(iter(loader), 9))
    numbers = [number for batch in batches for number in batch["sample_id"].tolist()]
    assert Counter(numbers) == {0: 12, 1: 12, 2: 12}
    assert [position for batch in batches for position in batch["_position"].tolist()] == list(range(36))
    with pytest.raises(TypeError, match="epochs=None"):
        len(loader)


@pytest.mark.parametrize(("drop_last", "sizes"), [(True, [[2, 2]]), (False, [[2, 2], [1, 0]])])
def test_the_last_batch_of_a_pass(table_of: TableOf, drop_last: bool, sizes: list[list[int]]) -> None:
    loaders = [
        ShardLoader(table_of([3, 2]), batch_size=2, rank=rank, world_size=2, drop_last=drop_last) for rank in range(2)
    ]
    assert [len(loader) for loader in loaders] == [len(sizes)] * 2
    lengths = [[len(batch["sample_id"]) for batch in loader] for loader in loaders]
    assert [list(pair) for pair in zip(*lengths, strict=True)] == sizes


def test_one_caption_an_image_and_epoch_in_turn(emoji: Path) -> None:
    loader = ShardLoader(emoji, batch_size=40, size=8, captions="one_per_image", epochs=3)
    epochs = [(batch["image_id"], batch["sample_id"].tolist()) for batch in loader]
    for images, _ in epochs:
        assert sorted(images) == sorted(f"image-{number}" for number in range(40))
    assert sorted(sample for _, samples in epochs for sample in samples) == list(range(120))
    assert len({sample % 3 for sample in epochs[0][1]}) == 3
    by_key = ShardLoader(emoji, batch_size=40, size=8, captions="one_per_image", image_key="image_id", epochs=3)
    assert ids(by_key) == [samples for _, samples in epochs]


def test_a_break_an_error_and_a_forgotten_iterator_end_the_threads(emoji: Path) -> None:
    loader = ShardLoader(emoji, batch_size=4, size=8, epochs=None, threads=3)
    for _ in loader:
        break
    with contextlib.suppress(KeyboardInterrupt):
        for _ in loader:
            raise KeyboardInterrupt
    iterator = iter(loader)
    next(iterator)
    assert any(thread.name.startswith("headrace") for thread in threading.enumerate())
    del iterator


def bad_image_table(folder: Path) -> Path:
    """Ten images. Number 3 is truncated and number 7 is null."""
    images = [png(number) for number in range(10)]
    images[3] = images[3][:100]
    table = numbered([10])[0].append_column("image", [[*images[:7], None, *images[8:]]])
    return commit(folder / "bad", [table])


def test_a_bad_image_ends_the_run_and_names_its_place(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"part-00000\.parquet: row 3 \(sample_id 3\), column image: truncated"):
        list(ShardLoader(bad_image_table(tmp_path), batch_size=10, shuffle=False))


def test_bad_images_are_skipped_and_counted(tmp_path: Path) -> None:
    loader = ShardLoader(bad_image_table(tmp_path), batch_size=5, shuffle=False, on_bad_sample="skip")
    assert ids(loader) == [[0, 1, 2, 4], [5, 6, 8, 9]]
    assert sorted((bad.sample_id, bad.row, bad.reason) for bad in loader.stats.bad_samples) == [
        (3, 3, "truncated"),
        (7, 7, "null"),
    ]
    assert sum(loader.stats.bad.values()) == 2


def test_bad_images_are_replaced_by_the_next_good_row(tmp_path: Path) -> None:
    loader = ShardLoader(bad_image_table(tmp_path), batch_size=5, shuffle=False, on_bad_sample="replace")
    batches = list(loader)
    assert [batch["sample_id"].tolist() for batch in batches] == [[0, 1, 2, 4, 4], [5, 6, 8, 8, 9]]
    assert torch.equal(batches[0]["image"][3], batches[0]["image"][4])


def test_a_null_condition_is_black_and_masked(tmp_path: Path) -> None:
    table = captioned(4, 1, 1)[0]
    column = table.column("condition").to_pylist()
    table = table.set_column(table.column_names.index("condition"), "condition", [[None, *column[1:]]])
    batch = next(iter(ShardLoader(commit(tmp_path / "t", [table]), batch_size=4, shuffle=False)))
    assert batch["condition_mask"].tolist() == [False, True, True, True]
    assert not batch["condition"][0].any()


@pytest.mark.parametrize("harm", ["missing", "truncated", "replaced"])
def test_a_damaged_file_is_named(emoji: Path, tmp_path: Path, harm: str) -> None:
    path = shutil.copytree(emoji, tmp_path / "copy")
    victim = path / "part-00002.parquet"
    if harm == "missing":
        victim.unlink()
    elif harm == "truncated":
        victim.write_bytes(victim.read_bytes()[:-100])
    else:
        shutil.copy(numbered_file(tmp_path), victim)
    message = {"missing": "file is missing", "truncated": "cannot read", "replaced": "found 4 rows, expected 30"}[harm]
    with pytest.raises(DataError, match=rf"part-00002\.parquet: {message}"):
        list(ShardLoader(path, batch_size=10, size=8))
    loader = ShardLoader(path, batch_size=10, size=8, on_bad_sample="skip")
    assert sum(len(batch["caption"]) for batch in loader) == 90
    assert sum(loader.stats.bad.values()) == 30


def numbered_file(folder: Path) -> Path:
    return commit(folder / "other", numbered([4])) / "part-00000.parquet"


def test_images_of_several_sizes_need_a_size(tmp_path: Path) -> None:
    table = numbered([2])[0].append_column("image", [[png(1, 16), png(2, 20)]])
    path = commit(tmp_path / "t", [table])
    with pytest.raises(DataError, match="found 20×20 pixels, expected 16×16"):
        list(ShardLoader(path, batch_size=2, shuffle=False))
    assert next(iter(ShardLoader(path, batch_size=2, size=(8, 10))))["image"].shape == (2, 3, 8, 10)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size: found 0"),
        ({"batch_size": 2.5}, "batch_size: found 2.5, expected a whole number"),
        ({"threads": 0}, "threads: found 0"),
        ({"memory": 0}, "memory: found 0"),
        ({"size": 0}, "size: found 0, expected pixels"),
        ({"size": (3,)}, r"size: found \(3,\)"),
        ({"buckets": [(8, 0)]}, r"buckets: found \(8, 0\)"),
        ({"columns": "image"}, "columns: found 'image', expected a list"),
        ({"rank": 2, "world_size": 2}, "rank: found 2, expected 0 to 1"),
        ({"columns": ["nothing"]}, "column nothing: found none"),
        ({"decode": {"image": "cmyk"}}, r"decode\['image'\]: found 'cmyk'"),
        ({"captions": "some"}, "captions: found 'some', expected one of all, one_per_image, weighted"),
        ({"captions": "weighted"}, "weight: found None, expected a column of"),
        ({"captions": "one_per_image", "image_key": "nothing"}, "image_key: found 'nothing'"),
    ],
)
def test_wrong_arguments_are_named(emoji: Path, arguments: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        ShardLoader(emoji, **{"batch_size": 4, **arguments})


def test_a_missing_table_or_version_is_named(emoji: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: found nothing, expected a Delta table"):
        ShardLoader(tmp_path / "nowhere", batch_size=1)
    with pytest.raises(DataError, match="cannot read the Delta log"):
        ShardLoader(emoji, batch_size=1, version=7)


def test_transparent_pixels_lie_on_white(tmp_path: Path) -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, 4:] = (0, 0, 255, 255)
    image = cv2.imencode(".png", pixels)[1].tobytes()
    path = commit(tmp_path / "t", [numbered([1])[0].append_column("image", [[image]])])
    batch = next(iter(ShardLoader(path, batch_size=1)))
    assert batch["image"][0, :, 0, 0].tolist() == [255, 255, 255]
    assert batch["image"][0, :, 0, 7].tolist() == [255, 0, 0]


@pytest.mark.parametrize("change", [{"epoch": "x"}, {"position": -5}, {"position": None}])
def test_a_state_of_another_loader_is_refused(emoji: Path, change: dict) -> None:
    loader = ShardLoader(emoji, batch_size=4)
    state = loader.state_dict()
    (name,) = change
    with pytest.raises(RecipeError, match=f"state: found {name} = "):
        loader.load_state_dict({**state, **change})
    with pytest.raises(RecipeError, match="state: found NoneType"):
        loader.load_state_dict(None)
    assert loader.state_dict() == state
