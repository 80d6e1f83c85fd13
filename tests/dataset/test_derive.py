"""Derived conditions, on pixels with known answers."""

import cv2
import numpy as np
import pyarrow as pa
import pytest

from headrace.dataset.images.derive import Conditions, decoded, lowres, palette, silhouette
from headrace.errors import DataError, RecipeError
from headrace.images.pixels import grayscale
from tests.dataset.conftest import png

RED, GREEN, CLEAR = (0, 0, 255, 255), (0, 255, 0, 255), (9, 9, 9, 0)


def square(side: int = 32) -> np.ndarray:
    """A red square on a transparent background, BGRA."""
    pixels = np.full((side, side, 4), CLEAR, np.uint8)
    pixels[side // 4 : 3 * side // 4, side // 4 : 3 * side // 4] = RED
    return pixels


def test_silhouette_is_the_alpha_channel() -> None:
    found = silhouette(square())
    assert found is not None
    assert (found == 255).sum() == 16 * 16
    assert silhouette(square()[:, :, :3]) is None


def test_grayscale_is_luma_over_white() -> None:
    found = grayscale(square())
    assert found[0, 0] == 255
    assert found[16, 16] == round(0.299 * 255)


def test_lowres_is_the_mean_of_areas() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 32, 3), np.uint8)
    found = lowres(pixels, 16)
    assert found.shape == (16, 8, 3)
    means = pixels.reshape(16, 4, 8, 4, 3).mean((1, 3))
    assert np.abs(found - means).max() <= 0.51
    assert lowres(pixels[:8, :8], 16).shape == (8, 8, 3)


def test_palette_has_so_many_colours_and_keeps_few_as_they_are() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (80, 70, 3), np.uint8)
    found = palette(pixels, 5)
    assert len(np.unique(found.reshape(-1, 3), axis=0)) == 5
    assert (palette(pixels, 5) == found).all()
    # k-means has converged: each colour is about the mean of the pixels that have it.
    for colour in np.unique(found.reshape(-1, 3), axis=0):
        own = (found == colour).all(-1)
        assert np.abs(pixels[own].mean(0) - colour).max() < 12
    two = np.where(np.arange(6)[:, None, None] < 3, RED[:3], GREEN[:3]).astype(np.uint8).repeat(4, 1)
    assert (palette(two, 8) == two).all()


def test_conditions_of_16_bits_are_those_of_8() -> None:
    pixels = square()
    kinds = Conditions(("edges", "silhouette", "grayscale", "lowres", "palette"))
    eight, sixteen = (
        kinds.of(decoded(cv2.imencode(".png", made)[1].tobytes())) for made in (pixels, pixels.astype(np.uint16) * 257)
    )
    assert eight == sixteen
    assert eight is not None
    assert len(eight) == 5


def test_bad_images_have_no_conditions() -> None:
    for image in (None, b"", b"no image", png(0)[:-20]):
        assert decoded(image) is None
    assert decoded(png(0, side=9), max_pixels=80) is None
    assert Conditions(("edges",)).of(None) is None


def inverted(batch: pa.RecordBatch) -> pa.Array:
    """A hook that inverts each image that is not null."""
    made = []
    for image in batch.column("image").to_pylist():
        pixels = decoded(image)
        made.append(None if pixels is None else cv2.imencode(".png", 255 - pixels)[1].tobytes())
    return pa.array(made, pa.binary())


def too_few(batch: pa.RecordBatch) -> pa.Array:
    return pa.array([], pa.binary())


def no_array(batch: pa.RecordBatch) -> pa.Array:
    return pa.array(["text"] * batch.num_rows)


HERE = "tests.dataset.test_derive"


def test_hooks_of_users() -> None:
    batch = pa.RecordBatch.from_pydict({"image": pa.array([png(0), None, b"broken"], pa.binary())})
    ((name, made),) = Conditions((f"{HERE}:inverted",)).of_hooks(batch)
    assert name == "inverted"
    assert made.is_valid().to_pylist() == [True, False, False]
    assert (decoded(made[0].as_py()) == 255 - decoded(png(0))).all()


@pytest.mark.parametrize(("name", "said"), [("too_few", "0 values for 1 rows"), ("no_array", "found string")])
def test_hooks_that_give_something_else(name: str, said: str) -> None:
    batch = pa.RecordBatch.from_pydict({"image": pa.array([png(0)], pa.binary())})
    with pytest.raises(DataError, match=said):
        Conditions((f"{HERE}:{name}",)).of_hooks(batch)


@pytest.mark.parametrize("kind", ["sketch", "nowhere.at.all:f", f"{HERE}:nothing", f"{HERE}:HERE"])
def test_unknown_kinds(kind: str) -> None:
    with pytest.raises(RecipeError, match=kind.replace(".", r"\.")) as error:
        Conditions((kind,)).check()
    assert "\n" not in str(error.value)


def failing(batch: pa.RecordBatch) -> pa.Array:
    raise ZeroDivisionError("no\ngood")


def test_an_error_of_a_hook_names_it() -> None:
    batch = pa.RecordBatch.from_pydict({"image": pa.array([png(0)], pa.binary())})
    with pytest.raises(DataError, match="failing: found ZeroDivisionError: no, expected"):
        Conditions((f"{HERE}:failing",)).of_hooks(batch)
