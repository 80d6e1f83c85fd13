"""Autoencoders and priors with the jobs: they train, resume exactly and draw, ranks agree, and errors are one line."""

from __future__ import annotations

import json
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from safetensors.torch import load_file

from headrace.jobs.sample import main as sample
from headrace.jobs.train import main as train
from tests.tiny_runs import losses, recipe_of, write_recipe
from tests.training.test_ranks import train_on

BOTTLENECKS: dict[str, dict[str, Any]] = {
    "kl": {"kind": "kl", "channels": 2},
    "vq": {"kind": "vq", "codes": 16, "channels": 4},
    "cosine": {"kind": "vq", "codes": 16, "channels": 4, "update": "gradient", "cosine": True},
    "fsq": {"kind": "fsq", "levels": [4, 4]},
}
ADVERSARY = {"start": 3, "channels": 8, "layers": 2}


def autoencoder(dataset: Path, run: Path, bottleneck: str = "vq", **objective: Any) -> dict[str, Any]:
    return {
        "data": {"path": str(dataset), "batch_size": 8, "threads": 1, "caption": None},
        "model": {
            "network": "autoencoder",
            "resolution": 16,
            "channels": 8,
            "bottleneck": BOTTLENECKS[bottleneck],
        },
        "objective": {"family": "autoencoder", "monitor_every": 2, "monitored": 8, **objective},
        "training": {"run": str(run), "steps": 8, "warmup": 2, "checkpoint_every": 4, "precision": "fp32"},
        "sampling": {"examples": 3, "per_prompt": 1},
    }


def prior(dataset: Path, run: Path, autoencoder_run: Path, **model: Any) -> dict[str, Any]:
    return {
        "data": {"path": str(dataset), "batch_size": 8, "threads": 1, "label": "label"},
        "model": {"network": "prior", "codes": 16, "side": 4, "width": 16, "layers": 2, "heads": 2, **model},
        "objective": {"family": "prior", "autoencoder": str(autoencoder_run)},
        "training": {"run": str(run), "steps": 8, "warmup": 2, "checkpoint_every": 4, "precision": "fp32"},
        "sampling": {"per_prompt": 2, "guidance": 2.0},
    }


TEXT = {"vocabulary": 300, "length": 6, "width": 16, "layers": 1, "heads": 2}
PRIORS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "labels": ({"labels": 3}, ["labels=[0,2]"]),
    "words": ({"text": TEXT, "positions": "rotary"}, ["prompts=[red disc]", "top_k=3", "negative=blue square"]),
    "cross": ({"text": TEXT, "condition": "cross"}, ["prompts=[red disc]", "pixels=[20,24]"]),
    "lstm": ({"labels": 3, "core": "lstm"}, ["labels=[1]", "temperature=0.5"]),
    "gru": ({"core": "gru"}, ["examples=2", "top_p=0.5"]),
}


def started(recipe: dict[str, Any], *overrides: str) -> Path:
    run = Path(recipe["training"]["run"])
    path = write_recipe(run.parent / f"{run.name}.yaml", recipe)
    assert train([str(path), *overrides]) == 0
    return run


@pytest.fixture(scope="module")
def autoencoder_run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained VQ-VAE."""
    return started(autoencoder(dataset, tmp_path_factory.mktemp("discrete") / "autoencoder"))


def assert_exact_resume(recipe: dict[str, Any]) -> Path:
    """Check that eight steps in one go, and in two goes with a run checkpoint between them, are the same run."""
    run = Path(recipe["training"]["run"])
    whole = started(recipe)
    parts = recipe | {"training": {**recipe["training"], "run": f"{run}-parts"}}
    started(parts, "training.steps=4")
    twice = started(parts)
    assert (whole / "metrics.jsonl").read_bytes() == (twice / "metrics.jsonl").read_bytes()
    last = "checkpoints/step-00000008"
    for path in (whole / last).glob("*.safetensors"):
        expected, found = load_file(path), load_file(twice / last / path.name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items()), path.name
    return whole


@pytest.mark.parametrize("bottleneck", ["kl", "vq", "fsq"])
def test_an_autoencoder_trains_resumes_exactly_and_draws_again(bottleneck: str, dataset: Path, tmp_path: Path) -> None:
    recipe = autoencoder(dataset, tmp_path / "run", bottleneck, discriminator=ADVERSARY)
    recipe["training"] |= {"activation": "full", "accumulate": 2, "evaluate_every": 4, "evaluate_samples": 8}
    run = assert_exact_resume(recipe)
    figures = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert ["reconstruct/adaptive" in line for line in figures] == [False] * 3 + [True] * 5
    assert ["discriminate/loss" in line for line in figures] == [False] * 3 + [True] * 5
    monitored = "reconstruct/fixed_error" if bottleneck == "kl" else "reconstruct/fixed_perplexity"
    assert [monitored in line for line in figures] == [False, True] * 4
    assert sample([str(run)]) == 0
    assert cv2.imread(str(run / "samples" / "sample-0-0.png")).shape == (16, 16, 3)
    state = load_file(run / "checkpoints/step-00000008/model.ema.safetensors")
    assert state["updates"] == 8
    if bottleneck == "vq":
        assert state["bottleneck.uses_K"].sum() > 0


@pytest.fixture(scope="module")
def classifier(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = recipe_of(dataset, tmp_path_factory.mktemp("classifier") / "classifier", steps=3)
    recipe["data"] |= {"label": "label", "caption": None}
    recipe["model"] = {"network": "classifier", "labels": 3, "resolution": 16, "channels": 8, "multipliers": [1, 2]}
    recipe["objective"] = {"family": "classifier"}
    return started(recipe)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_features_of_a_trained_classifier_are_compared(
    compiled: bool, dataset: Path, classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    perceptual = {"perceptual": {"run": str(classifier), "weight": 2.0}}
    recipe = autoencoder(dataset, tmp_path / "run", discriminator=ADVERSARY, **perceptual)
    recipe["training"] |= {"activation": "full", "compile": compiled}
    run = started(recipe)
    first = json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    parts = first["reconstruct/pixels"] + 2.0 * first["reconstruct/perceptual"]
    assert first["reconstruct/perceptual"] > 0
    assert first["reconstruct/loss"] == pytest.approx(parts + 0.25 * first["reconstruct/commitment"], rel=1e-5)
    assert "objective.perceptual.run" in json.loads((run / "frozen.json").read_text())
    recipe["model"]["image_channels"] = 1
    recipe["training"]["run"] = str(tmp_path / "gray")
    capsys.readouterr()
    line = "expected one that takes 1 channels and 16 pixels"
    assert line in refused(recipe, capsys)


@pytest.mark.parametrize("kind", PRIORS)
def test_a_prior_trains_resumes_exactly_and_draws(
    kind: str, dataset: Path, autoencoder_run: Path, tmp_path: Path
) -> None:
    model, request = PRIORS[kind]
    recipe = prior(dataset, tmp_path / "run", autoencoder_run, **model)
    recipe["training"]["activation"] = "sqrt"
    run = assert_exact_resume(recipe)
    assert sample([str(run), *request]) == 0
    pictures = sorted((run / "samples").glob("*-[0-9].png"))
    size = (20, 24, 3) if kind == "cross" else (16, 16, 3)
    assert [cv2.imread(str(picture)).shape for picture in pictures] == [size] * len(pictures)
    assert len(pictures) in {2, 4}


@pytest.mark.slow
@pytest.mark.parametrize("bottleneck", ["vq", "cosine"])
def test_ranks_that_share_weights_have_the_losses_of_one_rank(
    bottleneck: str, dataset: Path, processes: ForkServerContext, tmp_path: Path
) -> None:
    recipe = autoencoder(dataset, tmp_path / "unused", bottleneck)
    recipe["training"] |= {"activation": "full", "parallel": "fsdp"}
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    alone, pair = tmp_path / "alone", tmp_path / "pair"
    assert train_on(processes, 1, path, alone) == [0]
    assert train_on(processes, 2, path, pair) == [0, 0], (tmp_path / "pair.log").read_text()
    assert losses(pair) == pytest.approx(losses(alone), abs=1e-4)


@pytest.mark.parametrize("bottleneck", ["vq"])
def test_ranks_have_one_codebook_and_the_adaptive_weight_of_one_rank(
    bottleneck: str, dataset: Path, processes: ForkServerContext, tmp_path: Path
) -> None:
    recipe = autoencoder(dataset, tmp_path / "unused", bottleneck, discriminator=ADVERSARY)
    recipe["training"]["activation"] = "full"
    path = write_recipe(tmp_path / "recipe.yaml", recipe)
    alone, pair = tmp_path / "alone", tmp_path / "pair"
    assert train_on(processes, 1, path, alone) == [0]
    assert train_on(processes, 2, path, pair) == [0, 0], (tmp_path / "pair.log").read_text()
    assert losses(pair) == pytest.approx(losses(alone), abs=2e-5)
    weights = [
        [json.loads(line).get("reconstruct/adaptive", 0.0) for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (alone, pair)
    ]
    assert weights[1] == pytest.approx(weights[0], rel=1e-3)
    last = "checkpoints/step-00000008/model.safetensors"
    ours, theirs = load_file(pair / last), load_file(alone / last)
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4, msg=name)


def test_a_denoiser_of_vq_latents_trains_and_draws(dataset: Path, autoencoder_run: Path, tmp_path: Path) -> None:
    recipe = recipe_of(dataset, tmp_path / "run", steps=4)
    recipe["model"] |= {"resolution": 4, "image_channels": 4, "patch": 1, "autoencoder": str(autoencoder_run)}
    run = started(recipe)
    assert sample([str(run)]) == 0
    assert cv2.imread(str(run / "samples" / "red-square-0.png")).shape == (16, 16, 3)


def refused(recipe: dict[str, Any], capsys: pytest.CaptureFixture[str], status: int = 2) -> str:
    run = Path(recipe["training"]["run"])
    assert train([str(write_recipe(run.parent / f"{run.name}.yaml", recipe))]) == status
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("headrace")]
    return line


def test_a_codebook_larger_than_the_data(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = autoencoder(dataset, tmp_path / "run")
    recipe["model"]["bottleneck"] = {"kind": "vq", "codes": 385}
    assert refused(recipe, capsys) == (
        "headrace: model.bottleneck: found 385 codes, expected at most 384, "
        f"one for each position of a latent in {dataset}"
    )


@pytest.mark.parametrize(
    ("section", "change", "line"),
    [
        ("model", {"bottleneck": {"kind": "vq", "codes": 1}}, "model.bottleneck.codes: found 1, "),
        (
            "model",
            {"bottleneck": {"kind": "vector"}},
            "bottleneck.kind: found 'vector', expected one of kl, vq, fsq",
        ),
        ("model", {"bottleneck": {"kind": "fsq", "levels": [8, 1]}}, "model.bottleneck.levels.1: found 1, "),
        ("model", {"resolution": 18}, "expected a resolution divisible by 4"),
        ("objective", {"perceptual": {}}, "expected either run or vgg"),
        ("objective", {"perceptual": {"run": "no/where"}}, "objective.perceptual.run: no/where: found no recipe.yaml"),
        (
            "objective",
            {"perceptual": {"vgg": "no.file"}},
            "perceptual.vgg: found no.file, expected a safetensors file",
        ),
        ("objective", {"discriminator": {"start": -1}}, "objective.discriminator.start: found -1, "),
        ("objective", {"family": "prior", "autoencoder": "x"}, "found an unknown key"),
        ("training", {"parallel": "fsdp"}, "training.parallel: found 'fsdp', expected ddp: the adaptive weight"),
    ],
)
def test_recipes_of_autoencoders_that_are_wrong(
    section: str, change: dict[str, Any], line: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = autoencoder(dataset, tmp_path / "run", discriminator=ADVERSARY)
    recipe[section] |= change
    assert line in refused(recipe, capsys)


@pytest.mark.parametrize(
    ("section", "change", "line"),
    [
        ("model", {"codes": 17}, "model.codes: found 17, expected 16 as in "),
        ("model", {"side": 5}, "model.side: found 5, expected 4 as in "),
        ("objective", {"autoencoder": "no/where"}, "objective.autoencoder: no/where: found no recipe.yaml"),
        ("data", {"label": None}, "data.label: found nothing, expected a column, because the model has labels"),
        (
            "model",
            {"core": "lstm", "condition": "cross"},
            "condition: prefix for lstm, which has no attention",
        ),
    ],
)
def test_recipes_of_priors_that_are_wrong(
    section: str,
    change: dict[str, Any],
    line: str,
    dataset: Path,
    autoencoder_run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = prior(dataset, tmp_path / "run", autoencoder_run, labels=3)
    recipe[section] |= change
    assert line in refused(recipe, capsys)


def test_a_prior_needs_codes(dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kl = started(autoencoder(dataset, tmp_path / "kl", "kl"), "training.steps=1")
    capsys.readouterr()
    assert "expected that of an autoencoder whose bottleneck is vq or fsq" in refused(
        prior(dataset, tmp_path / "run", kl), capsys
    )


def test_what_cannot_be_drawn_is_one_line(
    dataset: Path, autoencoder_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = started(prior(dataset, tmp_path / "run", autoencoder_run, labels=3), "training.steps=1")
    capsys.readouterr()
    for overrides, line in (
        (["prompts=[red]"], "sampling.labels: found none, expected one for each row: the model has labels"),
        (["labels=[0,3]"], "sampling.labels: found [0, 3], expected labels from 0 to 2"),
        (["labels=[0]", "pixels=[16,18]"], "sampling.pixels: found 18, expected multiples of 4, at least 16"),
        (["labels=[0]", "pixels=[12,16]"], "sampling.pixels: found 12, expected multiples of 4, at least 16"),
        (["labels=[0]", "temperature=0"], "sampling.temperature: found 0, "),
        (["labels=[0]", "top_k=0"], "sampling.top_k: found 0, "),
        (["labels=[0]", "top_p=1.5"], "sampling.top_p: found 1.5, "),
    ):
        assert sample([str(run), *overrides]) == 2
        assert line in capsys.readouterr().err
    assert sample([str(autoencoder_run), "examples=0", "prompts=[red]"]) == 2
    assert "sampling.examples: found none, expected some" in capsys.readouterr().err


def test_a_prior_whose_autoencoder_has_changed_is_refused(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = autoencoder(dataset, tmp_path / "autoencoder")
    own = started(recipe, "training.steps=2")
    run = started(prior(dataset, tmp_path / "run", own, labels=3), "training.steps=1")
    started(recipe, "training.steps=3")
    assert sample([str(run), "labels=[0]"]) == 3
    assert "found the weights of step 3, expected those of step 2" in capsys.readouterr().err
