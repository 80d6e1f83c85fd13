"""GANs with the headrace commands: tiny versions of the repository's recipes, captions, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
import yaml
from safetensors.torch import load_file

from headrace.jobs.report import main as report
from headrace.jobs.sample import main as sample
from headrace.jobs.train import main as train
from headrace.runs.run_folder import RunFolder
from headrace.systems import SampleRequest, system_for
from tests.tiny_runs import write_recipe

RECIPES = ("fashion-gan", "fashion-wgan", "fashion-r3gan")
TINY: dict[str, Any] = {
    "data": {"batch_size": 8, "threads": 1, "where": {}, "captions": "all", "image_key": None},
    "model": {"resolution": 16, "channels": 8, "latent": 8, "classes": 3},
    "training": {"steps": 6, "checkpoint_every": 3, "precision": "fp32"},
    "sampling": {"labels": [0, 2], "per_prompt": 2},
}


def tiny(name: str, dataset: Path, run: Path) -> Path:
    """A small version of a recipe of the repository, over the tests' dataset."""
    recipe = yaml.safe_load(Path("recipes", f"{name}.yaml").read_text())
    for section, values in TINY.items():
        recipe[section] |= values
    recipe["data"]["path"], recipe["training"]["run"] = str(dataset), str(run)
    return write_recipe(run.with_suffix(".yaml"), recipe)


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tiny("fashion-gan", dataset, tmp_path_factory.mktemp("gan") / "run")
    assert train([str(path)]) == 0
    return path.with_suffix("")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_train_resume_exactly_sample_and_report(name: str, dataset: Path, tmp_path: Path) -> None:
    whole, parts = tiny(name, dataset, tmp_path / "whole"), tiny(name, dataset, tmp_path / "parts")
    constant = "training.decay=constant"
    assert train([str(whole), constant]) == 0
    assert train([str(parts), constant, "training.steps=4"]) == 0
    assert train([str(parts), constant]) == 0
    one, other = tmp_path / "whole", tmp_path / "parts"
    assert (one / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    for network in ("generator", "discriminator"):
        for kind in ("", ".ema", ".optimizer"):
            file = f"checkpoints/step-00000006/{network}{kind}.safetensors"
            expected, found = load_file(one / file), load_file(other / file)
            assert all(torch.equal(found[key], value) for key, value in expected.items()), file
    assert sample([str(one), "seed=1"]) == 0
    names = {path.name for path in (one / "samples").glob("*.png")}
    assert names == {"grid.png", "0-0.png", "0-1.png", "2-0.png", "2-1.png"}
    assert cv2.imread(str(one / "samples" / "0-0.png"), cv2.IMREAD_UNCHANGED).shape[:2] == (16, 16)
    assert report([str(one)]) == 0


def test_the_critics_distance_is_a_metric_of_its_own(dataset: Path, tmp_path: Path) -> None:
    assert train([str(tiny("fashion-wgan", dataset, tmp_path / "run"))]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert all("discriminator/wasserstein" in line and "discriminator/gradient_norm" in line for line in lines)
    assert [("generator/loss" in line) for line in lines] == [step % 5 == 0 for step in range(1, 7)]


def test_images_follow_seed_number_and_label_alone(run: Path) -> None:
    folder = RunFolder(run)
    recipe = folder.load()
    image_generator = system_for(recipe).image_generator(folder, torch.device("cpu"))
    labels = torch.tensor([0, 1, 2, 0, 1])
    whole = image_generator.draw(SampleRequest([None] * 5, labels), recipe.sampling)
    part = image_generator.draw(SampleRequest([None] * 2, labels[2:4], first=2), recipe.sampling)
    assert whole.shape == (5, 1, 16, 16)
    assert (whole[2:4].int() - part.int()).abs().max() <= 1
    other = image_generator.draw(SampleRequest([None] * 5, labels.flip(0)), recipe.sampling)
    assert not torch.equal(whole[0], other[0])
    again = image_generator.draw(SampleRequest([None] * 5, labels), recipe.sampling.model_copy(update={"seed": 5}))
    assert not torch.equal(whole, again)


def test_from_captions(dataset: Path, tmp_path: Path) -> None:
    path = tiny("fashion-gan", dataset, tmp_path / "run")
    changes = ["model.condition=caption", "data.caption=caption", "model.text.vocabulary=300", "model.text.width=16"]
    assert train([str(path), *changes]) == 0
    assert sample([str(tmp_path / "run"), "prompts=[red disc, blue square]"]) == 0
    assert (tmp_path / "run" / "samples" / "red-disc-1.png").exists()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (["data.label=null"], "data.label: found nothing, expected a column, because model.condition is label"),
        (["model.network=dit"], "expected"),
        (
            ["model.condition=caption"],
            "data.caption: found nothing, expected a column, because model.condition is caption",
        ),
        (["objective.regulariser=r1_r2"], "model.norm: found 'batch', expected none or group"),
        (["objective.loss=hinge"], "objective.loss: found 'hinge', expected"),
        (["model.resolution=18"], "expected a resolution that is a multiple of 4 and at least 8"),
        (["objective.gamma_final=0.1"], "expected a burn_in of at least 1 sample with gamma_final"),
    ],
)
def test_wrong_recipes_are_one_line(
    changes: list[str], line: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny("fashion-gan", dataset, tmp_path / "run")
    assert train([str(path), *changes]) == 2
    (found,) = capsys.readouterr().err.splitlines()
    assert line in found
    assert not (tmp_path / "run").exists()


def test_a_label_beyond_the_classes(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train([str(tiny("fashion-gan", dataset, tmp_path / "run")), "model.classes=2"]) == 3
    assert "data.label: found [2], expected labels from 0 to 1, as model.classes is" in capsys.readouterr().err


def test_labels_that_the_generator_does_not_have(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sample([str(run), "labels=[7]"]) == 2
    assert sample([str(run), "labels=[]", "prompts=[a boot]"]) == 2
    first, second = (line for line in capsys.readouterr().err.splitlines() if line.startswith("headrace: "))
    assert re.search(r"sampling.labels: found \[7(, 7)*\], expected labels from 0 to 2", first)
    assert "sampling.labels: found none, expected one for each row: model.condition is label" in second


def test_the_example_of_the_guide_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", Path("docs/adversarial.md").read_text(encoding="utf-8"), re.S)
    exec(compile(example, "docs/adversarial.md", "exec"), {})


def test_commands_of_the_guide_are_recipes_and_keys_that_exist(dataset: Path, tmp_path: Path) -> None:
    """Runs every `headrace train` line of docs/adversarial.md at a tiny size."""
    text = Path("docs/adversarial.md").read_text(encoding="utf-8")
    commands = re.findall(r"^headrace train recipes/(\S+)\.yaml *([^#\n]*)", text, re.M)
    assert len(commands) >= 5
    for number, (name, overrides) in enumerate(commands):
        path = tiny(name, dataset, tmp_path / f"run-{number}")
        given = [o for o in overrides.split() if not o.startswith("training.run=")]
        captions = ["model.text.vocabulary=300"] if "model.condition=caption" in given else []
        assert train([str(path), *given, *captions, "training.steps=2"]) == 0, (name, given)
