"""The source of Fashion-MNIST: from IDX files to a dataset with a partition for each split."""

import gzip
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable
from hypothesis import given
from hypothesis import strategies as st
from pyspark.sql import SparkSession

from headrace.dataset.build import build
from headrace.errors import DataError
from headrace.jobs.fashion import CAPTIONS, conditions, main, make_source, read_idx
from headrace.loading import ShardLoader
from headrace.recipe import load_recipe

TRAIN, TEST = 12, 5
RECIPE = Path(__file__).parents[2] / "recipes" / "fashion.yaml"


def idx(array: np.ndarray) -> bytes:
    """`array` as a gzipped IDX file, by the format's definition."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(int(size).to_bytes(4, "big") for size in array.shape)
    return gzip.compress(header + array.tobytes())


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Files like those of Debian's package, with a few images."""
    folder = tmp_path / "package"
    folder.mkdir()
    for name, count in (("train", TRAIN), ("t10k", TEST)):
        rng = np.random.default_rng(count)
        (folder / f"{name}-images-idx3-ubyte.gz").write_bytes(idx(rng.integers(0, 256, (count, 28, 28), np.uint8)))
        (folder / f"{name}-labels-idx1-ubyte.gz").write_bytes(idx((np.arange(count) % 10).astype(np.uint8)))
    return folder


def recipe_at(tmp_path: Path) -> Path:
    raw = yaml.safe_load(RECIPE.read_text())
    raw["dataset"]["source"]["path"] = str(tmp_path / "source")
    raw["dataset"]["output"]["path"] = str(tmp_path / "fashion")
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def test_from_files_to_batches_of_a_split(tmp_path: Path, package: Path, spark: SparkSession) -> None:
    path = recipe_at(tmp_path)
    assert main([str(path), str(package)]) == 0
    dataset = load_recipe(str(path)).dataset
    assert dataset is not None
    for split in ("train", "test"):
        build(spark, dataset, ("split", split))
    columns = ["image", "label", "caption", "image_id", "split"]
    loader = ShardLoader(str(tmp_path / "fashion"), batch_size=4, decode={"image": "gray"}, columns=columns)
    batches = list(loader)
    rows = [row for batch in batches for row in zip(*(batch[name] for name in columns), strict=True)]
    assert len(rows) == 4 * (TRAIN + TEST)
    images = {"train": "train", "test": "t10k"}
    pixels = {split: read_idx(package / f"{name}-images-idx3-ubyte.gz", 3) for split, name in images.items()}
    for image_1HW, label, caption, image_id, split in rows:
        name, number = image_id.split("-")
        assert name == split
        assert np.array_equal(image_1HW[0].numpy(), pixels[split][int(number)])
        assert int(label) == int(number) % 10
        assert caption in CAPTIONS[int(label)]
    actions = pa.table(DeltaTable(str(tmp_path / "fashion")).get_add_actions(flatten=True))
    assert set(actions.column("partition.split").to_pylist()) == {"train", "test"}, "the log tells the splits apart"


def test_a_source_that_is_there_is_left_alone_and_one_of_other_files_made_anew(tmp_path: Path, package: Path) -> None:
    target = tmp_path / "source"
    make_source(target, package)
    before = {file.name: file.stat().st_mtime_ns for file in target.iterdir()}
    make_source(target, package)
    assert {file.name: file.stat().st_mtime_ns for file in target.iterdir()} == before
    labels = package / "t10k-labels-idx1-ubyte.gz"
    labels.write_bytes(idx(np.full(TEST, 9, np.uint8)))
    make_source(target, package)
    assert pq.read_table(target / "test.parquet").column("label").to_pylist() == [9] * TEST


def test_images_may_be_made_smaller_with_edges_of_their_own(tmp_path: Path, package: Path) -> None:
    target = tmp_path / "small"
    path = recipe_at(tmp_path)
    assert main([str(path), str(package), f"dataset.source.path={target}", "--side=16"]) == 0
    row = pq.read_table(target / "train.parquet").to_pylist()[3]
    image = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_GRAYSCALE)
    original = read_idx(package / "train-images-idx3-ubyte.gz", 3)[3]
    assert np.array_equal(image, cv2.resize(original, (16, 16), interpolation=cv2.INTER_AREA))
    edges = cv2.imdecode(np.frombuffer(row["conditions"][0]["image"], np.uint8), cv2.IMREAD_GRAYSCALE)
    assert np.array_equal(edges, cv2.Canny(image, 100, 200))
    assert main([str(path), "--side=4"]) == 2
    assert main([str(path), "--sides=16"]) == 2


def test_files_of_others_are_kept(tmp_path: Path, package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "source"
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    assert main([str(recipe_at(tmp_path)), str(package)]) == 2
    assert "found other files" in capsys.readouterr().err
    assert [file.name for file in target.iterdir()] == ["mine.txt"]


def test_without_the_package_one_line_names_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(recipe_at(tmp_path)), str(tmp_path / "nowhere")]) == 3
    message = capsys.readouterr().err
    assert "apt-get install dataset-fashion-mnist" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "source").exists()


@pytest.mark.parametrize(
    "broken",
    [
        b"not gzip",
        idx(np.zeros((3, 28, 28), np.uint8))[:40],
        gzip.compress(b"\0\0\x08\x03" + b"\0" * 4),
        gzip.compress(b"\0\0\x08\x01" + b"\0\0\0\5" + b"\0" * 5),
        gzip.compress(b"\0\0\x08\x03" + 3 * b"\0\0\0\2" + b"\0" * 7),
        idx(np.zeros((TRAIN + 1, 28, 28), np.uint8)),
    ],
    ids=["no gzip", "cut", "no values", "one dimension", "too few values", "more images than labels"],
)
def test_broken_files_are_one_line(tmp_path: Path, package: Path, broken: bytes) -> None:
    (package / "train-images-idx3-ubyte.gz").write_bytes(broken)
    with pytest.raises(DataError, match=r"train-.*: found ") as error:
        make_source(tmp_path / "source", package)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "source").exists()


@given(st.data())
def test_idx_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    shape = data.draw(st.lists(st.integers(0, 5), min_size=1, max_size=3))
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    path = tmp_path_factory.mktemp("idx") / "array.gz"
    path.write_bytes(idx(array))
    assert np.array_equal(read_idx(path, array.ndim), array)


def test_conditions_are_of_the_images_size_and_follow_it() -> None:
    square = np.zeros((28, 28), np.uint8)
    square[7:21, 7:21] = 200
    made = conditions(square)
    assert {condition.shape for condition in made.values()} == {(28, 28)}
    assert np.array_equal(made["silhouette"] == 255, square > 0)
    ring = cv2.dilate(square, np.ones((3, 3), np.uint8)) - cv2.erode(square, np.ones((3, 3), np.uint8))
    assert made["edges"].any()
    assert not (made["edges"] & ~ring)[ring == 0].any(), "edges lie on the rim of the square"
    assert made["lowres"][10:18, 10:18].min() == 200
    assert len(np.unique(made["lowres"])) <= 4
