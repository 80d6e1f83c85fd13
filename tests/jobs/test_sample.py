"""`jobs/sample.py`: images of a run's prompts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch

from headrace.jobs.sample import main
from headrace.jobs.train import main as train
from headrace.runs.run_folder import RunFolder
from headrace.sampling.draw import draw, rows, slugs
from headrace.systems import SampleRequest, system_for
from headrace.systems.denoising import DenoisingImageGenerator
from tests.tiny_runs import recipe_of, write_dataset, write_recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_dataset(folder / "tiny")
    recipe = recipe_of(folder / "tiny", folder / "run", steps=4)
    assert train([str(write_recipe(folder / "recipe.yaml", recipe))]) == 0
    return folder / "run"


def test_as_a_module_it_ends_with_where_the_grid_is(run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("samples")))
    done = subprocess.run(
        [sys.executable, "-m", "headrace.jobs.sample", str(run)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == str(run / "samples" / "grid.png")
    names = {path.name for path in (run / "samples").iterdir()}
    assert names == {"grid.png", *(f"{p}-{n}.png" for p in ("red-square", "grune-scheibe") for n in range(2))}
    image = cv2.imread(str(run / "samples" / "red-square-0.png"), cv2.IMREAD_UNCHANGED)
    assert image.shape == (16, 16, 3)
    grid = cv2.imread(str(run / "samples" / "grid.png"))
    assert grid.shape == (200, 400, 3)
    assert (grid[:100, :190] < 128).any(), "the first row has a label"


@pytest.mark.parametrize(
    "override",
    [
        "sampling.steps=2",
        "guidance=1.0",
        "sampler=ddpm",
        "sampler=heun",
        "eta=0.5",
        "seed=3",
        "spacing=karras",
        "negative=grüne Scheibe",
        "guided_to=0.5",
        "rescale=1.0",
    ],
)
def test_overrides_change_the_pictures(run: Path, override: str) -> None:
    path = run / "samples" / "red-square-0.png"
    assert main([str(run)]) == 0
    before = path.read_bytes()
    assert main([str(run)]) == 0
    assert path.read_bytes() == before
    assert main([str(run), override]) == 0
    assert path.read_bytes() != before


def test_the_size_of_a_batch_changes_nothing(run: Path) -> None:
    folder = RunFolder(run)
    recipe = folder.load()
    image_generator = system_for(recipe).image_generator(folder, torch.device("cpu"))
    request = SampleRequest([prompt for prompt in recipe.sampling.prompts for _ in range(2)])
    whole = draw(image_generator, request, recipe.sampling)
    counts: list[int] = []
    parts = draw(image_generator, request, recipe.sampling.model_copy(update={"batch_size": 3}), counts.append)
    assert whole.shape == (4, 3, 16, 16)
    assert counts == [3, 1]
    assert (whole.int() - parts.int()).abs().max() <= 1


def test_rows_may_be_samples_of_the_dataset(run: Path) -> None:
    assert main([str(run), "prompts=[]", "examples=3"]) == 0
    folder = RunFolder(run)
    titles = rows(folder.load(("sampling.prompts=[]", "sampling.examples=3")), (3, 16, 16)).titles
    assert titles[0] == "sample 0"  # the first caption of each file is null
    for name in slugs(titles):
        assert len(list((run / "samples").glob(f"{name}-[01].png"))) == 2


def test_it_draws_with_the_averaged_weights(run: Path) -> None:
    folder = RunFolder(run)
    image_generator = system_for(folder.load()).image_generator(folder, torch.device("cpu"))
    assert isinstance(image_generator, DenoisingImageGenerator)
    checkpoint = run / "checkpoints" / "step-00000004"
    from safetensors.torch import load_file

    averages, weights = (load_file(checkpoint / f"{name}.safetensors") for name in ("model.ema", "model"))
    ours = image_generator.network.state_dict()
    assert all(torch.equal(ours[name], value) for name, value in averages.items())
    assert any(not torch.equal(ours[name], value) for name, value in weights.items())


def test_wrong_arguments_are_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main([str(tmp_path)]) == 2
    assert main([str(run), "steeps=4"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "headrace: argument RUN: found nothing, expected headrace sample [-h] RUN [key=value ...]"
    assert errors[1] == f"headrace: {tmp_path}: found no recipe.yaml, expected the folder of a run"
    assert "sampling.steeps: found an unknown key" in errors[2]


def test_a_run_without_a_checkpoint(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "recipe.yaml").write_bytes((run / "recipe.yaml").read_bytes())
    assert main([str(tmp_path)]) == 3
    assert "found no checkpoint, expected a run that has saved at least one" in capsys.readouterr().err
