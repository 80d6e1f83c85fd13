"""Every kind of denoiser with the headrace commands: trained, resumed, sampled, guided, refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from headrace.errors import DataError
from headrace.jobs.sample import main as sample
from headrace.jobs.train import main as train
from headrace.runs import frozen
from headrace.runs.run_folder import RunFolder
from headrace.sampling.draw import draw, rows
from headrace.systems import SampleRequest, system_for
from tests.tiny_runs import losses, recipe_of, write_recipe

AUTOENCODER = {
    "network": "autoencoder",
    "resolution": 16,
    "channels": 8,
    "multipliers": [1, 2],
    "bottleneck": {"kind": "kl", "channels": 2},
}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "base": ({}, {"prediction": "epsilon", "schedule": "linear", "min_snr": None}, {}),
    "labels": ({"text": None, "labels": 3}, {}, {"prompts": [], "labels": [0, 2]}),
    "both": ({"labels": 3}, {}, {"labels": [0, 2]}),
    "neither": ({"text": None}, {"prediction": "edm", "schedule": "lognormal"}, {"prompts": [], "examples": 2}),
    "smld": (
        {"text": None},
        {"prediction": "score", "schedule": "geometric", "min_snr": None},
        {"prompts": [], "per_prompt": 4, "sampler": "langevin", "updates": 3, "steps": 4},
    ),
    "dit": (
        {"network": "dit", "width": 16, "layers": 1, "heads": 2, "patch": 4, "text": None, "labels": 3},
        {},
        {"prompts": [], "labels": [1, 2], "sampler": "predictor_corrector"},
    ),
    "latent": (
        {"resolution": 4, "image_channels": 2, "patch": 1, "autoencoder": "autoencoder"},
        {},
        {"sampler": "dpmpp_2m"},
    ),
}


def recipe_for(name: str, dataset: Path, folder: Path) -> dict[str, Any]:
    model, objective, sampling = VARIANTS[name]
    recipe = recipe_of(dataset, folder / name, steps=4, checkpoint_every=2)
    if model.get("network") == "dit":
        recipe["model"] = {"resolution": 16}
    recipe["model"] |= model
    if "autoencoder" in model:
        recipe["model"]["autoencoder"] = str(folder / model["autoencoder"])
    recipe["objective"] |= objective
    recipe["sampling"] |= sampling
    if recipe["model"].get("labels"):
        recipe["data"]["label"] = "label"
    return recipe


def train_once(folder: Path, name: str, recipe: dict[str, Any]) -> Path:
    """The run `name` in `folder`, trained unless it has been already."""
    run = folder / name
    if not run.exists():
        recipe["training"] |= {"run": str(run), "steps": 4, "checkpoint_every": 2}
        assert train([str(write_recipe(folder / f"{name}.yaml", recipe))]) == 0
    return run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("systems")


@pytest.fixture(scope="module")
def autoencoder(folder: Path, dataset: Path) -> Path:
    recipe = recipe_of(dataset, folder)
    recipe |= {"model": AUTOENCODER, "objective": {"family": "autoencoder"}, "sampling": {"examples": 2}}
    return train_once(folder, "autoencoder", recipe)


@pytest.fixture(scope="module")
def base(folder: Path, dataset: Path) -> Path:
    return train_once(folder, "base", recipe_for("base", dataset, folder))


@pytest.fixture(scope="module")
def classifier(folder: Path, dataset: Path) -> Path:
    recipe = recipe_of(dataset, folder)
    recipe["data"] |= {"label": "label", "caption": None}
    recipe["model"] = {"network": "classifier", "labels": 3, "resolution": 16, "channels": 8, "multipliers": [1, 2]}
    recipe["objective"] = {"family": "classifier", "schedule": "linear"}
    del recipe["sampling"]
    return train_once(folder, "classifier", recipe)


@pytest.fixture(scope="module")
def control(folder: Path, dataset: Path, base: Path) -> Path:
    recipe = recipe_of(dataset, folder)
    recipe["data"] |= {"condition": "condition"}
    recipe["model"] = {"network": "controlnet", "base": str(base)}
    recipe["objective"] = {"family": "control"}
    recipe["training"] |= {"learning_rate": 0.05, "activation": "sqrt"}
    recipe["sampling"] = {"examples": 2, "steps": 3, "per_prompt": 1}
    return train_once(folder, "control", recipe)


def drawn(run: Path, *overrides: str, request: SampleRequest | None = None) -> torch.Tensor:
    """What `headrace sample` draws, without the files."""
    folder = RunFolder(run)
    recipe = folder.load(tuple(f"sampling.{o}" for o in overrides))
    system = system_for(recipe)
    found = request or rows(recipe, system.image_shape).repeated(recipe.sampling.per_prompt)
    return draw(system.image_generator(folder, torch.device("cpu")), found, recipe.sampling)


def error_of(run: Path, *overrides: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The exit status of `headrace sample`, and the one line that it ends with."""
    capsys.readouterr()
    status = sample([str(run), *overrides])
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return f"{status} {error}"


@pytest.mark.parametrize("name", VARIANTS)
def test_trained_resumed_and_sampled(name: str, folder: Path, dataset: Path, autoencoder: Path) -> None:
    run = train_once(folder, name, recipe_for(name, dataset, folder))
    assert len(losses(run)) == 4
    resumed = recipe_for(name, dataset, folder)
    resumed["training"]["run"] = str(folder / f"{name}-resumed")
    path = write_recipe(folder / f"{name}-resumed.yaml", resumed)
    assert train([str(path), "training.steps=2"]) == 0
    assert train([str(path)]) == 0
    assert losses(folder / f"{name}-resumed") == losses(run)
    assert sample([str(run)]) == 0
    pictures = sorted((run / "samples").glob("*-*.png"))
    assert len(pictures) == 4
    assert cv2.imread(str(pictures[0])).shape == (16, 16, 3)


@pytest.mark.parametrize("name", ["base", "smld", "dit", "latent", "both"])
def test_the_batch_that_a_sample_is_drawn_in_changes_nothing(
    name: str, folder: Path, dataset: Path, autoencoder: Path
) -> None:
    run = train_once(folder, name, recipe_for(name, dataset, folder))
    noisy = ("eta=1.0",) if name in {"base", "latent"} else ()
    sampler = ("sampler=ddpm", "variance=large") if name == "both" else ()
    whole = drawn(run, *noisy, *sampler)
    parts = drawn(run, *noisy, *sampler, "batch_size=3")
    assert (whole.int() - parts.int()).abs().max() <= 1
    assert (whole.int() - drawn(run, *noisy, *sampler, "seed=1").int()).abs().max() > 1


def test_labels_change_their_own_images_only(folder: Path, dataset: Path) -> None:
    run = train_once(folder, "labels", recipe_for("labels", dataset, folder))
    first, second = drawn(run, "labels=[0,0]"), drawn(run, "labels=[0,1]")
    assert torch.equal(first[:2], second[:2])
    assert not torch.equal(first[2:], second[2:])


def test_a_classifier_draws_towards_its_labels(base: Path, classifier: Path) -> None:
    # Four steps teach a classifier next to nothing, so its gradient is scaled up until it has an effect.
    guided = [drawn(base, f"classifier={classifier}", f"labels={[k, k]}", "classifier_scale=2000") for k in (0, 1)]
    assert not torch.equal(guided[0], guided[1])
    assert torch.equal(drawn(base, f"classifier={classifier}", "labels=[0,1]", "classifier_scale=0"), drawn(base))


def test_strength_0_is_the_base_whose_weights_stay_the_same(base: Path, control: Path) -> None:
    digest = _digest(base)
    assert json.loads((control / "frozen.json").read_text())["model.base"]["sha256"] == digest
    plain = drawn(base, "examples=2", "prompts=[]", "per_prompt=1", "guidance=3.0")
    assert torch.equal(drawn(control, "strength=0"), plain)
    assert not torch.equal(drawn(control), plain)
    assert _digest(base) == digest


def test_before_training_a_control_changes_no_bit(base: Path, control: Path, tmp_path: Path) -> None:
    recipe = yaml.safe_load((control / "recipe.yaml").read_text())
    recipe["training"] |= {"run": str(tmp_path / "fresh"), "steps": 1, "learning_rate": 1e-30, "weight_decay": 0.0}
    assert train([str(write_recipe(tmp_path / "fresh.yaml", recipe))]) == 0
    assert torch.equal(drawn(tmp_path / "fresh"), drawn(control, "strength=0"))


def test_conditions_come_from_files_and_controls_add_up(base: Path, control: Path, tmp_path: Path) -> None:
    for name, side in (("all", 16), ("none", 0)):
        image = np.zeros((16, 16), np.uint8)
        image[:side, :side] = 255
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    files = [str(tmp_path / "all.png"), str(tmp_path / "none.png")]
    own = ("prompts=[red square, green disc]", "per_prompt=2", f"conditions={files}")
    obeyed = drawn(control, *own)
    assert obeyed.shape == (4, 3, 16, 16)
    assert not torch.equal(obeyed, drawn(control, *own[:2], f"conditions={files[::-1]}"))
    use = {"run": str(control), "strength": 0.5, "conditions": files}
    of_base = ("prompts=[red square, green disc]", "per_prompt=2")
    half = drawn(control, *own, "strength=0.5")
    assert torch.equal(drawn(base, *of_base, f"controls={[use]}"), half)
    # A ControlNet used twice at half strength equals one at full strength, up to the rounding of the sum.
    both = drawn(control, *own, "strength=0.5", f"controls={[use]}")
    assert (both.int() - obeyed.int()).abs().max() <= 1
    assert not torch.equal(drawn(control, *own, "guess=true"), obeyed)


def test_images_return_from_the_noise_that_they_come_from(base: Path) -> None:
    request = ("examples=2", "prompts=[]", "per_prompt=1", "guidance=1.0", "start=images")
    recipe = RunFolder(base).load(("sampling.prompts=[]", "sampling.examples=2"))
    images = rows(recipe, (3, 16, 16)).request.images
    assert images is not None
    coarse, fine = ((drawn(base, *request, f"steps={n}").int() - images.int()).abs().float().mean() for n in (10, 100))
    assert fine < 1.5
    assert fine < coarse / 2


def test_a_base_that_was_trained_further_is_noticed(folder: Path, dataset: Path, control: Path, tmp_path: Path) -> None:
    recipe = recipe_for("base", dataset, tmp_path)
    base = train_once(tmp_path, "base", recipe)
    of_control = yaml.safe_load((control / "recipe.yaml").read_text())
    of_control["model"]["base"] = str(base)
    run = train_once(tmp_path, "control", of_control)
    assert train([str(tmp_path / "base.yaml"), f"training.run={base}", "training.steps=6"]) == 0
    with pytest.raises(DataError, match=r"found the weights of step 6, expected those of step 4 that .*control was"):
        drawn(run)


def _digest(run: Path) -> str:
    folder = RunFolder(run)
    return frozen.digest(frozen.network(folder.load(), frozen.newest(folder), torch.device("cpu")))


REFUSED = {
    "base": [
        ("eta=1.5", "2 headrace:", "sampling.eta: found 1.5", "less than or equal to 1"),
        ("steps=0", "2 headrace:", "sampling.steps: found 0", "greater than or equal to 1"),
        ("steps=1001", "2 headrace:", "sampling.steps: found 1001", "less than or equal to 1000"),
        ("sampler=ddimm", "2 headrace:", "sampling.sampler: found 'ddimm', expected one of ddim, ddpm"),
        (
            "labels=[0,1]",
            "2 headrace:",
            "sampling.labels: found [0, 1], expected none, because the model has no labels",
        ),
        ("labels=[0]", "2 headrace:", "sampling.labels: found 1, expected 2, one for each of sampling.prompts"),
        ("start=images", "2 headrace:", "sampling.start: found 'images', expected sampling.examples"),
        ("classifier={classifier}", "2 headrace:", "sampling.classifier: found no labels", "sampling.labels"),
        ("classifier={base}", "2 headrace:", "sampling.classifier: found a run of another network", "a classifier"),
        ("classifier=nowhere", "2 headrace:", "sampling.classifier: nowhere: found no recipe.yaml", "a run"),
        ("controls=[{run: {classifier}}]", "2 headrace:", "sampling.conditions: found none"),
    ],
    "labels": [
        ("prompts=[a heart, b]", "2 headrace:", "sampling.prompts: found 'a heart', expected none", "no text"),
        ("negative=ugly", "2 headrace:", "sampling.negative: found 'ugly', expected none", "no text"),
        ("labels=[3]", "2 headrace:", "sampling.labels: found 3, expected labels from 0 to 2"),
    ],
    "control": [
        ("conditions=[nowhere.png]", "2 headrace:", "sampling.conditions: found 1 files, expected 2"),
        ("conditions=[{small}, {small}]", "3 headrace:", "found a condition of 8×8 pixels, expected 16×16"),
        ("conditions=[{text}, {text}]", "3 headrace:", "found no image"),
        ("conditions=[nowhere.png, nowhere.png]", "3 headrace:", "nowhere.png: found no such file or directory"),
        ("prompts=[a heart]", "2 headrace:", "sampling.conditions: found none, expected an image file for each row"),
    ],
    "classifier": [("examples=1", "2 headrace:", "found a classifier, expected a run that draws images")],
}


@pytest.mark.parametrize(("name", "refused"), [(name, one) for name, all_ in REFUSED.items() for one in all_])
def test_what_cannot_be_drawn_is_one_line(
    name: str,
    refused: tuple[str, ...],
    folder: Path,
    dataset: Path,
    base: Path,
    classifier: Path,
    control: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if name in VARIANTS:
        train_once(folder, name, recipe_for(name, dataset, folder))
    cv2.imwrite(str(tmp_path / "small.png"), np.zeros((8, 8), np.uint8))
    (tmp_path / "words.png").write_text("not a picture")
    override, *parts = refused
    places = {"classifier": classifier, "base": base, "small": tmp_path / "small.png", "text": tmp_path / "words.png"}
    for place, path in places.items():
        override = override.replace(f"{{{place}}}", str(path))
    message = error_of(folder / name, override, capsys=capsys)
    for part in parts:
        assert part in message


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("base", {"data": {"caption": None}}, "data.caption: found nothing, expected a column, because the model has text"),
    ("labels", {"data": {"label": None}}, "data.label: found nothing, expected a column, because the model has labels"),
    ("base", {"objective": {"prediction": "noise"}}, "objective.prediction: found 'noise', expected one of epsilon, v"),
    (
        "base",
        {"model": {"text": {"encoder": "frozen", "path": "none"}}},
        "model.text.path: found no config.json in none",
    ),
    ("latent", {"model": {"image_channels": 3}}, "model.image_channels: found 3 (model.resolution 4), expected 2 (4)"),
    ("base", {"model": {"autoencoder": "nowhere"}}, "model.autoencoder: nowhere: found no recipe.yaml"),
    ("base", {"objective": {"family": "control"}}, "model.network: found 'unet', expected 'controlnet'"),
    ("control", {"data": {"condition": None}}, "data.condition: found nothing, expected a column, because objective"),
    ("control", {"model": {"base": "nowhere"}}, "model.base: nowhere: found no recipe.yaml"),
    ("control", {"model": {"base": "classifier"}}, "model.base: found a run of another family"),
    ("control", {"model": {"base": "dit"}}, "model.base: found a run of another network"),
    ("base", {"objective": {"family": "classifier"}, "data": {"label": "label"}}, "model.network: found 'unet'"),
]


@pytest.mark.parametrize(("name", "change", "line"), WRONG)
def test_what_cannot_be_trained_is_one_line(
    name: str,
    change: dict[str, dict[str, Any]],
    line: str,
    folder: Path,
    dataset: Path,
    classifier: Path,
    control: Path,
    autoencoder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    train_once(folder, "dit", recipe_for("dit", dataset, folder))
    if name == "control":
        recipe = yaml.safe_load((control / "recipe.yaml").read_text())
        if "model" in change and (folder / change["model"]["base"]).exists():
            change = {"model": {"base": str(folder / change["model"]["base"])}}
    else:
        recipe = recipe_for(name, dataset, folder)
    for section, keys in change.items():
        recipe[section] = keys if "family" in keys else recipe[section] | keys
    recipe["training"]["run"] = str(tmp_path / "run")
    capsys.readouterr()
    assert train([str(write_recipe(tmp_path / "wrong.yaml", recipe))]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert line in error
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


def test_a_checkpoint_of_another_architecture_is_one_line(
    base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = yaml.safe_load((base / "recipe.yaml").read_text())
    recipe["model"]["channels"] = 16
    write_recipe(tmp_path / "recipe.yaml", recipe)
    (tmp_path / "tokenizer.json").write_bytes((base / "tokenizer.json").read_bytes())
    (tmp_path / "checkpoints").symlink_to(base / "checkpoints")
    message = error_of(tmp_path, capsys=capsys)
    assert message.startswith("3 headrace:")
    assert "found weights of another architecture" in message
