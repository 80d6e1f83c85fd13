"""Every objective with every way of training: the trainer has no code for a particular family.

A new objective needs one entry in `FAMILIES`. Runs take a few steps in this process; two ranks are real processes.
"""

from __future__ import annotations

import functools
import json
import shutil
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from headrace.jobs.train import main as train
from tests.tiny_runs import losses, recipe_of, write_recipe
from tests.training.test_ranks import train_on

STEPS = 6
TEXT = {"vocabulary": 300, "length": 6, "width": 16, "layers": 1, "heads": 2}
UNET = {"resolution": 16, "channels": 8, "multipliers": [1, 2], "blocks": 1, "attention": [1], "heads": 2}
DCGAN = {"network": "gan", "resolution": 16, "latent": 8, "channels": 8, "multipliers": [1, 2]}
RESIDUAL = {**DCGAN, "backbone": "residual", "patch": 2}
WGAN = {"family": "gan", "loss": "wasserstein", "rounds": 2}
CODER = {"network": "autoencoder", "resolution": 16, "channels": 8}
BOOK = {"kind": "vq", "codes": 16, "channels": 4}
VQGAN = {**CODER, "bottleneck": BOOK}
ADVERSARY = {"start": 2, "channels": 8}
PRIOR = {"network": "prior", "codes": 16, "side": 4, "width": 16, "layers": 2, "heads": 2}

Family = tuple[dict[str, Any], dict[str, Any]]
"""the sections `model` and `objective`"""

FAMILIES: dict[str, Family] = {
    "diffusion": ({}, {}),
    "score": ({**UNET, "text": None}, {"prediction": "score", "schedule": "geometric", "min_snr": None}),
    "diffusion, dit": (
        {"network": "dit", "resolution": 16, "width": 16, "layers": 2, "heads": 2, "text": None, "labels": 3},
        {"prediction": "v"},
    ),
    "classifier": (
        {"network": "classifier", "resolution": 16, "channels": 8, "multipliers": [1, 2], "heads": 2, "labels": 3},
        {"family": "classifier"},
    ),
    "gan": ({**DCGAN, "condition": "label"}, {"family": "gan"}),
    "gan, minimax": (DCGAN, {"family": "gan", "loss": "minimax"}),
    "gan, batch norm": ({**DCGAN, "norm": "batch"}, {"family": "gan"}),
    "gan, captions": ({**DCGAN, "norm": "group", "condition": "caption", "text": TEXT}, {"family": "gan"}),
    "r3gan": (
        {**RESIDUAL, "condition": "label"},
        {"family": "gan", "loss": "relativistic", "regulariser": "r1_r2", "gamma_final": 0.1, "burn_in": 30},
    ),
    "wgan, clipping": (DCGAN, {**WGAN, "regulariser": "clip"}),
    "wgan, gradient penalty": (
        {**DCGAN, "norm": "group", "condition": "caption", "text": TEXT},
        {**WGAN, "regulariser": "gradient_penalty"},
    ),
    "wgan, spectral norm": (RESIDUAL, {**WGAN, "regulariser": "spectral"}),
    "autoencoder, kl": ({**CODER, "bottleneck": {"kind": "kl"}}, {"family": "autoencoder", "kl": 1e-2}),
    "autoencoder, fsq": ({**CODER, "bottleneck": {"kind": "fsq", "levels": [4, 4]}}, {"family": "autoencoder"}),
    "vqgan": (VQGAN, {"family": "autoencoder", "monitor_every": 2, "discriminator": ADVERSARY}),
    "vqgan, cosine codes": (
        {**CODER, "bottleneck": {**BOOK, "cosine": True, "update": "gradient"}},
        {"family": "autoencoder", "discriminator": ADVERSARY},
    ),
    "prior": ({**PRIOR, "labels": 3}, {"family": "prior"}),
    "prior, gru": ({**PRIOR, "core": "gru", "labels": 3}, {"family": "prior"}),
    "prior, lstm": ({**PRIOR, "core": "lstm", "text": TEXT}, {"family": "prior"}),
}
TWICE = {"r3gan", "wgan, gradient penalty"}
"""objectives that differentiate gradients"""
BATCHED = {"gan, batch norm"}
"""networks whose samples depend on the batch that a rank sees"""

WHOLE = {*TWICE, "wgan, spectral norm", "vqgan", "vqgan, cosine codes"}
"""objectives that need whole weights, where FSDP2 gives each rank a piece"""

WAYS: dict[str, dict[str, Any]] = {
    "computed again": {"activation": "full"},
    "computed again by segments": {"activation": "sqrt"},
    "selective": {"activation": "selective"},
    "in parts": {"accumulate": 2},
}
"""settings that must not change a loss by more than rounding"""
NOT = {
    ("gan, batch norm", "in parts"): "batch normalisation sees a part as its batch",
    **{(name, "in parts"): "the adaptive weight is a part's own" for name in ("vqgan", "vqgan, cosine codes")},
    **{(name, "selective"): "refused: torch's selective checkpointing is differentiated once only" for name in TWICE},
}


def recipe_for(name: str, dataset: Path, run: Path, **training: Any) -> dict[str, Any]:
    model, objective = FAMILIES[name]
    recipe = recipe_of(dataset, run, steps=STEPS, checkpoint_every=3, warmup=0, **training)
    recipe["data"] |= {"label": "label"}
    if name != "diffusion":
        recipe["model"], recipe["objective"] = model, objective
    if objective.get("family") == "prior":
        recipe["objective"] = {**objective, "autoencoder": str(codes_of(dataset))}
    return recipe


@functools.cache
def codes_of(dataset: Path) -> Path:
    """The run of a VQGAN, trained once, whose codes priors are trained on."""
    return run_of("vqgan", dataset, dataset.with_name("codes"))


def run_of(name: str, dataset: Path, run: Path, *overrides: str, **training: Any) -> Path:
    path = write_recipe(run.with_suffix(".yaml"), recipe_for(name, dataset, run, **training))
    assert train([str(path), *overrides]) == 0
    return run


def newest(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """All tensors of the last checkpoint, by file."""
    checkpoint = run / "checkpoints" / f"step-{STEPS:08d}"
    return {path.stem: load_file(path) for path in sorted(checkpoint.glob("*.safetensors"))}


@pytest.fixture(scope="module")
def plain(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each family's run with its own settings, in float32."""
    folder = tmp_path_factory.mktemp("families")
    return {name: run_of(name, dataset, folder / f"family-{i}") for i, name in enumerate(FAMILIES)}


@pytest.mark.parametrize("name", FAMILIES)
def test_no_step_is_skipped(name: str, plain: dict[str, Path]) -> None:
    skipped = [json.loads(line).get("skipped", 0) for line in (plain[name] / "metrics.jsonl").open()]
    assert skipped == [0] * STEPS


@pytest.mark.parametrize("name", FAMILIES)
def test_averages_follow_every_network(name: str, plain: dict[str, Path]) -> None:
    tensors = newest(plain[name])
    networks = [group for group in tensors if f"{group}.ema" in tensors]
    assert networks
    for network in networks:
        weights, averages = tensors[network], tensors[f"{network}.ema"]
        assert weights.keys() == averages.keys()
        moved = {key.rsplit("/", 1)[0] for key in tensors[f"{network}.optimizer"]}
        assert any(not torch.equal(weights[key], averages[key]) for key in moved)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_resumed_run_is_the_same_run(name: str, plain: dict[str, Path], dataset: Path, tmp_path: Path) -> None:
    run = run_of(name, dataset, tmp_path / "resumed")
    shutil.rmtree(run / "checkpoints" / f"step-{STEPS:08d}")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:-1]))
    assert train([str(tmp_path / "resumed.yaml")]) == 0
    assert (run / "metrics.jsonl").read_bytes() == (plain[name] / "metrics.jsonl").read_bytes()
    for group, expected in newest(plain[name]).items():
        found = newest(run)[group]
        assert all(torch.equal(found[key], value) for key, value in expected.items()), group


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", FAMILIES)
def test_ways_that_change_nothing(name: str, way: str, plain: dict[str, Path], dataset: Path, tmp_path: Path) -> None:
    if (name, way) in NOT:
        pytest.skip(NOT[name, way])
    run = run_of(name, dataset, tmp_path / "run", **WAYS[way])
    assert losses(run) == pytest.approx(losses(plain[name]), rel=2e-4, abs=2e-4)


@pytest.mark.parametrize("name", FAMILIES)
def test_an_evaluation_leaves_no_trace(name: str, plain: dict[str, Path], dataset: Path, tmp_path: Path) -> None:
    run = run_of(name, dataset, tmp_path / "run", evaluate_every=2, evaluate_samples=8)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    assert [("evaluation/loss" in line) for line in lines] == [False, True] * 3
    for group, expected in newest(plain[name]).items():
        found = newest(run)[group]
        assert all(torch.equal(found[key], value) for key, value in expected.items()), group


@pytest.mark.parametrize("name", FAMILIES)
def test_bf16_stays_near(name: str, plain: dict[str, Path], dataset: Path, tmp_path: Path) -> None:
    run = run_of(name, dataset, tmp_path / "run", precision="bf16", activation="full")
    found, expected = losses(run), losses(plain[name])
    assert found != expected
    assert found[0] == pytest.approx(expected[0], rel=0.1, abs=0.05)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name in {"gan", "r3gan"}])
def test_two_ranks(
    name: str, plain: dict[str, Path], dataset: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    check_two_ranks(name, plain, dataset, tmp_path, processes)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in {"gan", "r3gan"}])
def test_two_ranks_of_the_others(
    name: str, plain: dict[str, Path], dataset: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    check_two_ranks(name, plain, dataset, tmp_path, processes)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_weights_that_cannot_be_shared_are_one_line(
    name: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", recipe_for(name, dataset, tmp_path / "run", parallel="fsdp"))
    assert train([str(path)]) == 2
    (found,) = capsys.readouterr().err.splitlines()
    assert "training.parallel: found 'fsdp', expected ddp: " in found


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in WHOLE])
def test_two_ranks_that_share_weights(
    name: str, plain: dict[str, Path], dataset: Path, tmp_path: Path, processes: ForkServerContext
) -> None:
    check_two_ranks(name, plain, dataset, tmp_path, processes, parallel="fsdp")


def check_two_ranks(
    name: str, plain: dict[str, Path], dataset: Path, folder: Path, processes: ForkServerContext, **training: Any
) -> None:
    """Check that two ranks with activation checkpointing have the losses of one rank."""
    run = folder / "two"
    path = write_recipe(folder / "two.yaml", recipe_for(name, dataset, run, activation="full", **training))
    assert train_on(processes, 2, path, run) == [0, 0], (folder / "two.log").read_text()
    if name in BATCHED:
        assert losses(run)[0] == pytest.approx(losses(plain[name])[0], rel=0.5)
    else:
        assert losses(run) == pytest.approx(losses(plain[name]), rel=5e-4, abs=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in {"diffusion", *TWICE}])
def test_compiled(name: str, plain: dict[str, Path], dataset: Path, tmp_path: Path) -> None:
    run = run_of(name, dataset, tmp_path / "run", compile=True)
    assert losses(run) == pytest.approx(losses(plain[name]), rel=1e-3, abs=1e-3)


@pytest.mark.parametrize(
    ("training", "line"),
    [
        ({"compile": True}, "training.compile: found True, expected false: objective.regulariser"),
        ({"activation": "selective"}, "training.activation: found 'selective', expected another policy: objective."),
    ],
)
@pytest.mark.parametrize("name", sorted(TWICE))
def test_what_torch_differentiates_only_once_is_one_line(
    name: str, training: dict[str, Any], line: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", recipe_for(name, dataset, tmp_path / "run", **training))
    assert train([str(path)]) == 2
    (found,) = capsys.readouterr().err.splitlines()
    assert line in found
    assert not (tmp_path / "run").exists()


def test_a_discriminator_that_wins_outright_is_reported(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generator hardly moves and the discriminator learns fast. Metrics count its wins, a warning names them."""
    monkeypatch.setattr("headrace.objectives.gan.PATIENCE", 5)
    recipe = recipe_for("gan, minimax", dataset, tmp_path / "run")
    recipe["training"] |= {"steps": 60, "learning_rate": 1e-2, "networks": {"generator": {"learning_rate": 1e-9}}}
    assert train([str(write_recipe(tmp_path / "recipe.yaml", recipe))]) == 0
    won = [json.loads(line)["discriminator/rounds_won"] for line in (tmp_path / "run/metrics.jsonl").open()]
    assert max(won) >= 5
    assert won[0] == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "rounds in a row outright" in line]
    assert len(said) == sum(count > 0 and count % 5 == 0 for count in won)
    assert said[0].startswith(f"headrace: step {won.index(5) + 1}: the discriminator has won 5 rounds in a row")
