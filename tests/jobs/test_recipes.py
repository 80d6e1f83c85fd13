"""The recipes of denoisers, complete but tiny: trained, resumed and sampled by the commands."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from headrace.jobs.sample import main as sample
from headrace.jobs.train import main as train
from headrace.sampling.draw import slug
from tests.tiny_runs import losses, write_dataset, write_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
TINY: dict[str, dict[str, Any]] = {
    "fashion-ddpm": {"channels": 8},
    "fashion-smld": {"channels": 8},
    "fashion-dit": {"width": 24, "layers": 1},
    "fashion-classifier": {"channels": 8},
    "fashion-control": {},
    "fashion-kl": {"channels": 8},
    "fashion-latent": {"channels": 8, "text": {"vocabulary": 300, "length": 8, "width": 16, "layers": 1, "heads": 2}},
}
"""in an order in which each recipe follows those that it builds on"""
SAMPLED: dict[str, tuple[list[str], list[str], int]] = {
    "fashion-ddpm": (["labels=[1]", "guidance=0", "classifier={runs}/fashion-classifier"], ["1"], 16),
    "fashion-smld": ([], ["samples"], 16),
    "fashion-dit": (["labels=[0, 2]"], ["0", "2"], 28),
    "fashion-control": (["examples=2"], ["sample-0", "sample-1"], 16),
    "fashion-kl": (["examples=2"], ["sample-0", "sample-1"], 28),
    "fashion-latent": (["prompts=[a bag]"], ["a-bag"], 28),
}
"""overrides, the file name of each row, and the side of an image"""
pytestmark = pytest.mark.usefixtures("one_thread")
COLUMNS = 2
CLASSIFIED = ["guidance=0", "classifier={runs}/fashion-classifier", "classifier_scale=30000"]
REQUESTS: dict[str, tuple[str, list[str], list[str], list[bool]]] = {
    "labels": ("fashion-ddpm", ["labels=[1]"], ["labels=[2]"], [False]),
    "labels without guidance": (
        "fashion-ddpm",
        ["labels=[1]", "guidance=0"],
        ["labels=[2]", "guidance=0"],
        [True],
    ),
    "a classifier's labels": ("fashion-ddpm", ["labels=[1]", *CLASSIFIED], ["labels=[2]", *CLASSIFIED], [False]),
    "one label of two": ("fashion-dit", ["labels=[0, 2]"], ["labels=[0, 1]"], [True, False]),
    "prompts": ("fashion-latent", ["prompts=[a bag]"], ["prompts=[red disc]"], [False]),
    "conditions": ("fashion-control", ["examples=2"], ["examples=2", "strength=0"], [False, False]),
}
"""two requests to the same run with the same noise, and for each row whether both draw the same"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the runs, each trained for two steps, then resumed for one more."""
    folder = tmp_path_factory.mktemp("recipes")
    write_dataset(folder / "tiny")
    for name, model in TINY.items():
        recipe = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
        path = write_recipe(folder / f"{name}.yaml", _tiny(recipe, model, folder))
        assert train([str(path), "training.steps=2"]) == 0
        assert train([str(path)]) == 0
    return folder / "runs"


def _tiny(recipe: dict[str, Any], model: dict[str, Any], folder: Path) -> dict[str, Any]:
    recipe["data"] |= {"path": str(folder / "tiny"), "where": {}, "batch_size": 8, "captions": "all"}
    recipe["data"].pop("image_key", None)
    recipe["model"] |= model
    for key in ("base", "autoencoder"):
        if key in recipe["model"]:
            recipe["model"][key] = str(folder / recipe["model"][key])
    recipe["training"] |= {"run": str(folder / recipe["training"]["run"]), "steps": 3, "checkpoint_every": 2}
    # Three steps of this size are enough for labels, captions and conditions to affect pixels.
    recipe["training"] |= {"warmup": 0, "learning_rate": 1e-2, "decay": "constant"}
    return recipe


@pytest.mark.parametrize("name", TINY)
def test_it_trains_and_goes_on(name: str, runs: Path) -> None:
    assert len(losses(runs / name)) == 3
    assert [path.name for path in sorted((runs / name / "checkpoints").iterdir())] == ["step-00000002", "step-00000003"]


def drawn(run: Path, names: Sequence[str], *overrides: str) -> np.ndarray:
    """The images that a request draws, grey uint8 [row, column, H, W]. Checks that its files have these `names`."""
    shutil.rmtree(run / "samples", ignore_errors=True)
    overrides = tuple(override.replace("{runs}", str(run.parent)) for override in overrides)
    assert sample([str(run), "steps=3", f"per_prompt={COLUMNS}", *overrides]) == 0
    files = [[f"{name}-{column}.png" for column in range(COLUMNS)] for name in names]
    assert {path.name for path in (run / "samples").iterdir()} == {"grid.png", *itertools.chain(*files)}
    rows = np.stack([[cv2.imread(str(run / "samples" / file)) for file in row] for row in files])
    assert (rows == rows[..., :1]).all(), "grey pictures"
    return rows[..., 0]


@pytest.mark.parametrize("name", SAMPLED)
def test_it_draws_pictures_of_their_own_and_a_grid_of_them(name: str, runs: Path) -> None:
    overrides, names, side = SAMPLED[name]
    rows_RCHW = drawn(runs / name, names, *overrides)
    assert rows_RCHW.shape == (len(names), COLUMNS, side, side)
    assert rows_RCHW.std((2, 3)).min() > 10, "pictures are not blank"
    # An autoencoder reconstructs an example, the same in each column. Other systems start from new noise.
    different = {picture.tobytes() for row in rows_RCHW for picture in row}
    assert len(different) == (len(names) if name == "fashion-kl" else len(names) * COLUMNS)
    assert_grid_shows(runs / name / "samples" / "grid.png", rows_RCHW)


def assert_grid_shows(path: Path, rows_RCHW: np.ndarray) -> None:
    """Check that each image fills a 96 × 96 cell of its row, to the right of 200 pixels for the row's name."""
    grid = cv2.imread(str(path))
    rows, columns, side = rows_RCHW.shape[:3]
    assert grid.shape == (100 * rows, 200 + 100 * columns, 3)
    middles = ((np.arange(side) + 0.5) * 96 / side).astype(int)
    for row, column in np.ndindex(rows, columns):
        cell = grid[100 * row + 4 + middles[:, None], 200 + 100 * column + middles]
        assert (cell == rows_RCHW[row, column, ..., None]).all()
        assert (grid[100 * row : 100 * (row + 1), :190] < 128).any(), "a row has a name"


@pytest.mark.parametrize("case", REQUESTS)
def test_a_picture_depends_on_what_is_asked_for(case: str, runs: Path) -> None:
    name, first, second, same = REQUESTS[case]
    one, other = (drawn(runs / name, _names_of(overrides), *overrides) for overrides in (first, second))
    assert [np.array_equal(a, b) for a, b in zip(one, other, strict=True)] == same


def _names_of(overrides: Sequence[str]) -> list[str]:
    """The names of the files of a request's rows."""
    key, value = overrides[0].split("=")
    if key == "examples":
        return [f"sample-{number}" for number in range(int(value))]
    return [slug(str(asked)) for asked in yaml.safe_load(value)]


def test_an_autoencoder_has_learnt_how_bright_pictures_are(runs: Path) -> None:
    """Most of each image is white. A network that has learnt nothing draws grey, 127."""
    overrides, names, _ = SAMPLED["fashion-kl"]
    assert drawn(runs / "fashion-kl", names, *overrides).mean() > 160


def test_latents_of_a_codebook_are_denoised_and_controlled(runs: Path) -> None:
    """A VQ-VAE's latents instead of a KL autoencoder's, and a ControlNet on top of their denoiser."""
    folder = runs.parent
    bottleneck = {"kind": "vq", "codes": 16, "channels": 8}
    chain: dict[str, tuple[str, dict[str, Any]]] = {
        "vq": ("fashion-vqvae", {"channels": 8, "bottleneck": bottleneck}),
        "vq-latent": ("fashion-latent", TINY["fashion-latent"] | {"autoencoder": "runs/vq", "image_channels": 8}),
        "vq-control": ("fashion-control", {"base": "runs/vq-latent"}),
    }
    for name, (of, model) in chain.items():
        recipe = yaml.safe_load((RECIPES / f"{of}.yaml").read_text())
        recipe["training"]["run"] = f"runs/{name}"
        if "base" in model:
            recipe["data"] |= {"caption": "caption", "label": None}
        recipe = _tiny(recipe, model, folder)
        assert train([str(write_recipe(folder / f"{name}.yaml", recipe))]) == 0
        assert len(losses(runs / name)) == 3
    requests = {
        "vq-latent": (["prompts=[a bag]"], ["a-bag"]),
        "vq-control": (["examples=1"], ["sample-0"]),  # no shard begins with a caption
    }
    for name, (overrides, names) in requests.items():
        rows_RCHW = drawn(runs / name, names, *overrides)
        assert rows_RCHW.shape == (len(names), COLUMNS, 28, 28)
        assert rows_RCHW.std((2, 3)).min() > 5


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("guidance=.inf", "sampling.guidance: found inf"),
        ("churn=.inf", "sampling.churn: found inf"),
        ("guided_from=.nan", "sampling.guided_from: found nan"),
        (
            "guidance=1e38",
            "sampling: found images with non-finite values, expected lower sampling.guidance",
        ),
        ("guided_from=5 guided_to=1", "expected guided_from below guided_to, 1"),
    ],
)
def test_settings_that_draw_nothing(override: str, line: str, runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    request = [str(runs / "fashion-ddpm"), "steps=3", "per_prompt=1", "labels=[1]", *override.split()]
    assert sample(request) == 2
    assert line in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("name", "override", "line"),
    [
        ("fashion-ddpm", "model.labels=1", "headrace: data.label: found [1"),
        ("fashion-classifier", "model.labels=2", "headrace: data.label: found [2"),
        ("fashion-ddpm", "data.label=caption", "headrace: data.label: found a column 'caption' of text"),
    ],
)
def test_labels_that_the_model_does_not_know(
    name: str, override: str, line: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = runs.parent / f"{name}.yaml"
    assert train([str(recipe), f"training.run={tmp_path}/run", override]) == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith(line)
