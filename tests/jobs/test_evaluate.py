"""`jobs/evaluate.py` measures every family of runs, with the features of a trained run or of a TorchScript file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from torch import Tensor, nn

from headrace.jobs.evaluate import main
from headrace.jobs.report import main as report
from headrace.jobs.train import main as train
from tests.tiny_runs import recipe_of, write_dataset, write_recipe

FEW = ("images=12", "resamples=3", "data.image_key=sample_id", "sampling.batch_size=5", "batch_size=5")
SETS = {"fid", "kid", "precision", "recall", "density", "coverage"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate")
    write_dataset(folder / "tiny")
    return folder


def trained(folder: Path, name: str, **sections: Any) -> Path:
    """The run `name`, trained for a few steps by the tiny recipe with `sections` changed."""
    run = folder / name
    if not run.exists():
        recipe = recipe_of(folder / "tiny", run, steps=2)
        for section, keys in sections.items():
            recipe[section] = {**recipe[section], **keys} if section == "data" else keys
        assert train([str(write_recipe(folder / f"{name}.yaml", recipe))]) == 0
    return run


@pytest.fixture(scope="module")
def judge(folder: Path) -> Path:
    return trained(
        folder,
        "judge",
        data={"label": "label", "caption": None},
        model={"network": "classifier", "labels": 3, "resolution": 16, "channels": 8, "multipliers": [1, 2]},
        objective={"family": "classifier", "clean": 1.0},
        training={
            "run": str(folder / "judge"),
            "steps": 60,
            "learning_rate": 3e-3,
            "warmup": 4,
            "ema": 0.5,
            "precision": "fp32",
        },
    )


@pytest.fixture(scope="module")
def base(folder: Path) -> Path:
    return trained(folder, "base", data={"label": "label"})


def evaluated(run: Path, *overrides: str) -> dict[str, Any]:
    assert main([str(run), *FEW, *overrides]) == 0
    return json.loads((run / "evaluation.json").read_text())


def test_a_diffusion_run(
    base: Path, judge: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    found = evaluated(base, f"features={judge}")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"features: classifier {judge}, step 60"
    assert shown[-1] == str(base / "evaluation.json")
    assert sum("label_agreement" in line and "]" in line for line in shown) == 1, "a figure is on one line"
    assert found["features"] == f"classifier {judge}, step 60"
    assert found["real"] == {"path": str(base.parent / "tiny"), "version": 2, "where": {}, "images": 12}
    (measurement,) = found["measurements"]
    assert set(measurement["figures"]) == {*SETS, "label_agreement"}
    for figure in measurement["figures"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert measurement["images"] == 12
    assert (
        cv2.imread(str(base / "evaluation" / "drawn.png")).shape
        == cv2.imread(str(base / "evaluation" / "real.png")).shape
    )
    assert report([str(base)]) == 0
    page = (base / "report.html").read_text()
    assert f"classifier {judge}, step 60" in page
    assert f"{measurement['figures']['fid']['value']:.4g} [" in page
    assert page.count('alt="Evaluation: ') == 3


def test_the_same_evaluation_gives_the_same_figures(base: Path, judge: Path) -> None:
    first, again = (evaluated(base, f"features={judge}")["measurements"][0]["figures"] for _ in range(2))
    assert first == again
    other = evaluated(base, f"features={judge}", "sampling.seed=1")["measurements"][0]["figures"]
    assert other["fid"] != first["fid"]


def test_a_sweep_measures_every_combination(base: Path, judge: Path) -> None:
    found = evaluated(base, f"features={judge}", "sweep={steps: [1, 3], spacing: [trailing, uniform]}")
    assert [each["varied"] for each in found["measurements"]] == [
        {"steps": steps, "spacing": spacing} for steps in (1, 3) for spacing in ("trailing", "uniform")
    ]
    values = {each["figures"]["fid"]["value"] for each in found["measurements"]}
    assert len(values) == 4, "every way of drawing gives other images"
    assert (base / "evaluation" / "sweep.png").is_file()
    evaluated(base, f"features={judge}")
    assert not (base / "evaluation" / "sweep.png").exists(), "pictures of an older evaluation go"


def test_real_images_measured_against_themselves_by_an_autoencoder(folder: Path, judge: Path) -> None:
    bottleneck = {"kind": "vq", "codes": 16, "channels": 2}
    network = {"network": "autoencoder", "resolution": 16, "channels": 8, "multipliers": [1, 2]}
    run = trained(
        folder,
        "autoencoder",
        model=network | {"bottleneck": bottleneck},
        objective={"family": "autoencoder"},
        sampling={"examples": 2},
    )
    (measurement,) = evaluated(run, f"features={judge}")["measurements"]
    assert {"psnr", "ssim", *SETS} <= set(measurement["figures"])
    assert 0 < measurement["counts"]["codebook_usage"] <= 1
    assert 1 <= measurement["counts"]["codebook_perplexity"] <= 16


def test_a_classifier_is_measured_by_its_accuracy(judge: Path) -> None:
    found = evaluated(judge)
    assert found["features"] == f"classifier {judge}, step 60"
    assert found["measurements"][0]["figures"]["accuracy"]["value"] > 0.9, "three colours are soon learnt"
    assert (judge / "evaluation" / "labels.png").is_file()


def test_a_gan_of_stacked_images(folder: Path, judge: Path) -> None:
    run = trained(
        folder,
        "gan",
        model={"network": "gan", "resolution": 16, "channels": 8, "multipliers": [1, 2], "latent": 4},
        objective={"family": "gan"},
        sampling={"examples": 2},
    )
    (measurement,) = evaluated(run, f"features={judge}", "stacked=true")["measurements"]
    assert measurement["counts"]["modes_possible"] == 27
    assert 1 <= measurement["counts"]["modes"] <= 12
    assert "label_agreement" not in measurement["figures"]


def test_a_controlnet_is_measured_by_the_edges_that_it_obeys(folder: Path, base: Path, judge: Path) -> None:
    run = trained(
        folder,
        "control",
        data={"condition": "condition"},
        model={"network": "controlnet", "base": str(base)},
        objective={"family": "control"},
        sampling={"examples": 2, "steps": 3},
    )
    (measurement,) = evaluated(run, f"features={judge}", "tolerance=2")["measurements"]
    exact, near = (measurement["figures"][f"edge_f1_{each}px"]["value"] for each in (0, 2))
    assert 0 <= exact <= near <= 1


class Published(nn.Module):
    """A network like the Inception published for FID: it returns classes unless asked for features."""

    def forward(self, img: Tensor, return_features: bool = False) -> Tensor:
        features = img.float().mean([2, 3])
        return features if return_features else features[:, :1]


class Flat(nn.Module):
    """A network that only takes images."""

    def forward(self, image: Tensor) -> Tensor:
        return image.float().mean([2, 3])


class Wrong(nn.Module):
    """A network that returns images instead of features."""

    def forward(self, image: Tensor) -> Tensor:
        return image.float()


@pytest.mark.parametrize("network", [Published, Flat])
def test_features_may_come_from_a_file(base: Path, judge: Path, tmp_path: Path, network: type[nn.Module]) -> None:
    path = tmp_path / "network.pt"
    torch.jit.script(network()).save(str(path))
    found = evaluated(base, f"features={path}", f"judge={judge}")
    assert found["features"] == f"TorchScript file {path}"
    assert found["judge"] == f"classifier {judge}, step 60"
    assert "label_agreement" in found["measurements"][0]["figures"]
    assert evaluated(base, f"features={path}")["judge"] is None


def test_what_is_wrong_is_one_line(base: Path, judge: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.pt"
    text.write_text("no network")
    wrong = tmp_path / "wrong.pt"
    torch.jit.script(Wrong()).save(str(wrong))
    cases = {
        (): (2, "argument RUN: found nothing, expected headrace evaluate"),
        (str(tmp_path),): (2, "found no recipe.yaml, expected the folder of a run"),
        (str(base),): (2, "evaluation.features: found nothing, expected a run folder of a classifier or"),
        (str(base), "features=nowhere"): (2, "evaluation.features: found nothing at nowhere"),
        (str(base), f"features={text}"): (2, f"evaluation.features: found no TorchScript file at {text}"),
        (str(base), f"features={wrong}", *FEW): (3, "found [5, 3, 16, 16] for 5 images, expected features [N, D]"),
        (str(base), f"features={base}"): (2, "evaluation.features: found a run of another network"),
        (str(base), f"features={judge}", "imags=3"): (2, "evaluation.imags: found an unknown key"),
        (str(base), f"features={judge}", "sweep={stps: [1]}"): (2, "evaluation.sweep: found 'stps'"),
        (str(base), f"features={judge}", "sweep={steps: [0]}"): (2, "evaluation.sweep.steps: found 0"),
        (str(base), f"features={judge}", "sweep={steps: []}"): (2, "evaluation.sweep"),
        (str(base), f"features={judge}", "path=nowhere"): (2, "found no dataset at nowhere"),
        (str(base), f"features={judge}", "label=nothing"): (2, "data.label: found 'nothing'"),
        (str(base), f"features={judge}", "images=1000"): (3, "expected at least the 1000 to compare with"),
        (str(judge), "data.label=null"): (2, "data.label: found nothing, expected the column of labels"),
    }
    for arguments, (status, line) in cases.items():
        capsys.readouterr()
        assert main(list(arguments)) == status, arguments
        error = [text for text in capsys.readouterr().err.splitlines() if text.startswith("headrace: ")]
        assert len(error) == 1
        assert line in error[0]
