"""`jobs/export.py`: `diffusers` draws the same images from an exported run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from headrace import models
from headrace.draws import Draws
from headrace.jobs.export import main
from headrace.jobs.train import main as train
from headrace.models import Conditioning
from headrace.recipe import load_run_recipe
from headrace.runs.run_folder import RunFolder
from headrace.systems import SampleRequest, system_for
from tests.tiny_runs import recipe_of, write_dataset, write_recipe

diffusers = pytest.importorskip("diffusers")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    write_dataset(folder / "tiny")
    recipe = recipe_of(folder / "tiny", folder / "run", steps=4, learning_rate=0.02)
    recipe["data"] |= {"label": "label"}
    recipe["model"] |= {"text": None, "labels": 3}
    recipe["objective"] = {"prediction": "epsilon", "schedule": "linear", "min_snr": None}
    recipe["sampling"] = {"labels": [0, 1, 2], "steps": 10, "guidance": 1.0, "per_prompt": 1, "seed": 5}
    assert train([str(write_recipe(folder / "recipe.yaml", recipe))]) == 0
    return folder / "run"


def test_the_exported_run_draws_the_same_images_by_diffusers(run: Path, tmp_path: Path) -> None:
    assert main([str(run), str(tmp_path / "out")]) == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"model.safetensors", "recipe.yaml", "scheduler_config.json"}
    recipe = load_run_recipe(str(tmp_path / "out" / "recipe.yaml"))
    network = models.build(recipe.model)
    network.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    network.eval()
    scheduler = diffusers.DDIMScheduler.from_pretrained(tmp_path / "out")
    scheduler.set_timesteps(recipe.sampling.steps)
    labels_N = torch.tensor([0, 1, 2])
    x_NCHW = Draws(recipe.sampling.seed, torch.arange(3)).normal("start", 3, 16, 16)
    with torch.no_grad():
        for step in scheduler.timesteps:
            output = network(x_NCHW, step.expand(3).float(), Conditioning(labels_N))
            x_NCHW = scheduler.step(output, step, x_NCHW).prev_sample
    theirs = ((x_NCHW.clamp(-1, 1) + 1) * 127.5).round().int()
    folder = RunFolder(run)
    image_generator = system_for(recipe).image_generator(folder, torch.device("cpu"))
    ours = image_generator.draw(SampleRequest([None] * 3, labels_N), recipe.sampling).int()
    assert ours.float().std() > 20
    assert (ours - theirs).abs().max() <= 1


def test_wrong_arguments_are_one_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main([str(run)]) == 2
    assert main([str(tmp_path), str(tmp_path / "out")]) == 2
    assert main([str(run), str(tmp_path)]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert errors[0] == "headrace: argument FOLDER: found nothing, expected headrace export [-h] RUN FOLDER"
    assert "found no recipe.yaml" in errors[1]
    assert "expected an empty folder or none" in errors[2]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
