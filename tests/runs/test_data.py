"""The dataset of a run: its version, columns and captions, all through the loader's reader of the Delta log."""

from __future__ import annotations

import inspect
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from deltalake import write_deltalake

from headrace.errors import DataError, RecipeError
from headrace.loading import ShardLoader
from headrace.models.tokens import CaptionTokenizer
from headrace.ranks.workers import Workers
from headrace.recipe.load import load_run_recipe
from headrace.recipe.text import Text
from headrace.recipe.training import Data, Loading
from headrace.runs import data
from headrace.runs.data import version_of
from headrace.runs.run_folder import RunFolder
from headrace.runs.tokenizer import captions, write_tokenizer
from tests.tiny_runs import recipe_of, write_dataset, write_recipe


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions of eight images each."""
    path = tmp_path_factory.mktemp("data") / "tiny"
    write_dataset(path)
    return path


def test_the_version_is_the_one_that_is_named_or_the_newest(path: Path) -> None:
    assert version_of(Data(path=str(path))) == 2
    assert version_of(Data(path=str(path), version=1)) == 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"path": "nowhere"}, "data.path: found no dataset at nowhere, expected one that `headrace build` made"),
        ({"version": 7}, "data.version: found 7, which cannot be read: "),
        ({"image": "picture"}, "data.image: found 'picture', expected a column of .*: sample_id, image, caption"),
        ({"condition": "edges"}, "data.condition: found 'edges', expected a column of"),
    ],
)
def test_what_is_not_there_is_one_line(path: Path, changes: dict[str, object], line: str) -> None:
    with pytest.raises(RecipeError, match=line) as caught:
        version_of(Data.model_validate({"path": str(path), **changes}))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_log_is_no_dataset(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b""], "caption": ["a"]}), tmp_path / "part.parquet")
    with pytest.raises(RecipeError, match=r"data.path: found no dataset at"):
        version_of(Data(path=str(tmp_path)))


def test_a_log_that_cannot_be_read_is_an_error_of_the_data(path: Path, tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / f"{0:020}.json").write_text("{}\n")
    with pytest.raises(DataError, match="cannot read the Delta log"):
        version_of(Data(path=str(tmp_path)))


def test_captions_are_those_of_the_version_without_nulls(path: Path, tmp_path: Path) -> None:
    found = list(captions(Data(path=str(path))))
    assert len(found) == 21
    assert set(found) == {f"{colour} {shape}" for colour in ("red", "green", "blue") for shape in ("square", "disc")}
    assert len(list(captions(Data(path=str(path), version=0)))) == 7
    table = pa.table({"caption": ["a", None, "b"], "language": ["en", "en", "de"]})
    write_deltalake(str(tmp_path / "parts"), table, partition_by=["language"])
    assert sorted(captions(Data(path=str(tmp_path / "parts")))) == ["a", "b"]


def test_a_tokenizer_is_learned_from_captions_or_copied(path: Path, tmp_path: Path) -> None:
    data = Data(path=str(path))
    write_tokenizer(tmp_path / "learned.json", Text(vocabulary=300, length=8), data)
    write_tokenizer(tmp_path / "copied.json", tmp_path / "learned.json", data)
    assert (tmp_path / "copied.json").read_bytes() == (tmp_path / "learned.json").read_bytes()
    tokens_NL, mask_NL = CaptionTokenizer.load(tmp_path / "copied.json").encode(["red disc", "quartz"])
    assert tokens_NL.shape == (2, 8)
    assert mask_NL[0].sum() < mask_NL[1].sum(), "words of the dataset have tokens of their own"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copied.json", "learned.json"]


def test_no_second_reader_opens_the_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("a DeltaTable was opened")

    monkeypatch.setattr("deltalake.DeltaTable.__init__", refuse)
    assert version_of(Data(path=str(path))) == 2
    assert len(list(captions(Data(path=str(path), version=2)))) == 21


ALONE = Workers(0, 1, torch.device("cpu"))
SET_BY_A_RUN = {
    "path": "data.path",
    "batch_size": "data.batch_size, shared by the ranks",
    "decode": "data.image and data.condition",
    "columns": "the columns that data names",
    "size": "model.resolution",
    "seed": "training.seed",
    "rank": "the launch",
    "world_size": "the launch",
    "shuffle": "a run's order is shuffled, that of an evaluation is the table's",
    "epochs": "a run goes on without end, an evaluation is one pass",
    "drop_last": "a network gets full batches",
    "drop": "objectives drop captions and labels themselves",
    "buckets": "all images of a run have one size",
    "hook": "a function, which a recipe cannot hold",
    "sample_hook": "a function, which a recipe cannot hold",
    "device": "the launch",
}
OTHER_DEFAULTS = {"crop", "threads", "where", "storage_options"}
"""runs keep the shape of images and share the cores; where a loader takes None, a recipe has an empty section"""
OTHER_VALUES = {
    "version": 1,
    "where": {},
    "crop": "random",
    "flip": 0.5,
    "captions": "weighted",
    "image_key": "caption",
    "weight": "label",
    "on_bad_sample": "replace",
    "threads": 1,
    "lanes": 3,
    "window": 2,
    "memory": 1 << 20,
    "prefetch": 1,
    "timeout": 9.0,
    "storage_options": {"AWS_REGION": "nowhere"},
    "cache": "copies",
    "cache_bytes": 7,
}


def test_every_argument_of_the_loader_is_a_key_or_is_set_by_the_run() -> None:
    arguments = inspect.signature(ShardLoader).parameters
    assert Loading.model_fields.keys() == arguments.keys() - SET_BY_A_RUN.keys()
    for name, field in Loading.model_fields.items():
        if name not in OTHER_DEFAULTS:
            assert field.get_default(call_default_factory=True) == arguments[name].default, name


def test_every_key_reaches_the_loader(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert OTHER_VALUES.keys() == Loading.model_fields.keys()
    found: dict[str, object] = {}
    monkeypatch.setattr(data, "ShardLoader", lambda path, **arguments: found.update(arguments))
    section = Data.model_validate({"path": str(path), **OTHER_VALUES})
    data.loader(section, (3, 16, 16), 0, ALONE)
    assert {name: found[name] for name in OTHER_VALUES} == OTHER_VALUES


@pytest.mark.parametrize("crop", ["centre", "random", "none"])
def test_a_disc_stays_round_unless_images_are_stretched(tmp_path: Path, crop: str) -> None:
    """A disc in images that are three times as wide as high, in the run's batches and in those that evaluate it."""
    image = np.full((64, 192, 3), 255, np.uint8)
    cv2.circle(image, (96, 32), 24, (0, 0, 0), -1)
    encoded = [cv2.imencode(".png", image)[1].tobytes()] * 4
    write_deltalake(str(tmp_path), pa.table({"image": pa.array(encoded, pa.binary())}))
    section = Data.model_validate(
        {"path": str(tmp_path), "caption": None, **({} if crop == "centre" else {"crop": crop})}
    )
    loaders = [data.loader(section.model_copy(update={"batch_size": 2}), (3, 64, 64), 0, ALONE)]
    loaders += [data.held_out(section, (3, 64, 64), 2, ALONE), data.examples(section, (3, 64, 64), 2)]
    loaders += [data.one_pass(section.model_copy(update={"image_key": "image"}), (3, 64, 64), 0, 2)]
    for number, loader in enumerate(loaders):
        dark_HW = (next(iter(loader))["image"][0] < 128).all(0)
        height, width = int(dark_HW.any(1).sum()), int(dark_HW.any(0).sum())
        if crop == "none":
            assert height > 2.5 * width, number
        elif crop == "centre" or number > 0:
            assert (height, width) == (49, 49), number
        else:
            assert height == 49, "a random crop may cut the disc at the sides, not squash it"


def test_a_run_older_than_crop_goes_on_stretching_its_images(path: Path, tmp_path: Path) -> None:
    recipe = load_run_recipe(str(write_recipe(tmp_path / "recipe.yaml", recipe_of(path, tmp_path / "run"))))
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    folder.write_recipe(recipe.changed("data", storage_options={"AWS_SECRET_ACCESS_KEY": "hidden"}))
    assert folder.load().data.crop == "centre"
    text = folder.recipe.read_text()
    assert "hidden" not in text
    folder.recipe.write_text(text.replace("  crop: centre\n", ""))
    assert folder.load().data.crop == "none"
    with pytest.raises(RecipeError, match=r"data\.crop: found 'centre', expected 'none' as in"):
        folder.agree(recipe)
    assert folder.agree(recipe.changed("data", crop="none")).data.crop == "none"
