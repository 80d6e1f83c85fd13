"""Reports: one page with the grid, the loss, rows of the dataset, and why values are absent."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from matplotlib import image as pictures

from headrace.jobs.report import main
from headrace.reports.figures import loss_curve, running_mean
from headrace.reports.pictures import data_uri
from headrace.reports.run_card import read_metrics
from tests.tiny_runs import recipe_of, write_dataset

RUNNING_MEAN = np.array([0x1F, 0x4E, 0x9C]) / 255
"""the colour of the running mean's line"""
NOTHING = {"count": 0, "examples": []}
LEDGER = {
    "columns": {
        "image": {"rows": 24, "nulls": 0, "structure": NOTHING, "data": NOTHING, "algorithm": NOTHING},
        "caption": {
            "rows": 24,
            "nulls": 3,
            "structure": {"count": 1, "examples": ["k0"]},
            "data": NOTHING,
            "algorithm": {"count": 2, "examples": ["k8", "k16"]},
        },
    },
    "functions": [
        {
            "column": "caption",
            "function": "clean",
            "values": 21,
            "data": 1,
            "algorithm": 2,
            "failure": 0,
            "examples": {"algorithm": ["k8"]},
        }
    ],
}


class Page(HTMLParser):
    """The texts of a page's table cells and headings, and its images by alternative text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.images: dict[str, str] = {}
        self.texts: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        assert not found.get("src", "data:").startswith("http"), "the page is self-contained"
        if tag == "img":
            self.images[found["alt"] or ""] = found["src"] or ""

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    path = tmp_path / "tiny"
    write_dataset(path)
    (path / "_headrace").mkdir()
    (path / "_headrace" / "absence-2.json").write_text(json.dumps(LEDGER))
    return path


@pytest.fixture
def run(tmp_path: Path, dataset: Path) -> Path:
    folder = tmp_path / "<run>"
    (folder / "samples").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_of(dataset, folder)))
    lines = [json.dumps({"step": n, "samples": 8 * n, "loss": 1 / n}) for n in range(1, 41)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + '\n{"step": 41, "lo')
    cv2.imwrite(str(folder / "samples" / "grid.png"), np.full((20, 30, 3), 127, np.uint8))
    return folder


def pixels(uri: str) -> np.ndarray:
    kind, data = uri.split(",")
    assert kind == "data:image/png;base64"
    return pictures.imread(io.BytesIO(base64.b64decode(data)), format="png")


def line_length(uri: str) -> int:
    """The number of pixel columns that a curve's running mean covers."""
    rgb = pixels(uri)[..., :3]
    return int((np.abs(rgb - RUNNING_MEAN) < 0.05).all(2).any(0).sum())


def test_a_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    page = Page(run / "report.html")
    assert pixels(page.images["Samples, one row for each prompt"]).shape == (20, 30, 3)
    assert line_length(page.images["The loss by step"]) > 400, "the line crosses most of 800 pixels"
    text = " ".join(page.texts)
    assert "<run>" in page.texts, "names are escaped"
    assert re.search(r"steps 40 samples seen 320 planned steps 10", " ".join(text.split()))
    assert "red square" in text
    assert "green disc" in text


def test_absence_is_shown_by_column_and_by_function(dataset: Path) -> None:
    assert main([str(dataset)]) == 0
    page = Page(dataset / "_headrace" / "report.html")
    cells = [text for text in page.texts if text]
    assert "By column: 1 of 2 are complete" in cells
    at = cells.index("example keys") + 1
    assert cells[at : at + 7] == ["caption", "24", "3", "1", "0", "2", "k0, k8, k16"]
    assert cells[cells.index("caption = clean(…)") + 1 :][:5] == ["21", "1", "2", "0", "k8"]


def test_example_rows_show_pictures_and_what_is_absent(dataset: Path) -> None:
    assert main([str(dataset)]) == 0
    page = Page(dataset / "_headrace" / "report.html")
    assert any(alt.endswith("bytes") and uri.startswith("data:image/png") for alt, uri in page.images.items())
    assert "absent" in page.texts


def test_a_run_whose_dataset_is_gone_still_has_a_report(run: Path, dataset: Path) -> None:
    dataset.rename(dataset.with_name("moved"))
    assert main([str(run)]) == 0
    assert "Example rows" not in Page(run / "report.html").texts


@pytest.mark.parametrize(("make", "found"), [(False, "no such folder"), (True, "neither recipe.yaml nor a Delta log")])
def test_what_is_neither_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], make: bool, found: str
) -> None:
    folder = tmp_path / "other"
    if make:
        folder.mkdir()
        (folder / "mine.txt").write_text("mine")
    assert main([str(folder)]) == 2
    message = capsys.readouterr().err
    assert found in message
    assert message.count("\n") == 1
    assert not make or [path.name for path in folder.iterdir()] == ["mine.txt"]


def test_a_file_is_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    assert main([str(tmp_path / "mine.txt")]) == 2
    assert "no such folder" in capsys.readouterr().err


def test_half_a_line_of_metrics_is_left_out(run: Path) -> None:
    assert [record["step"] for record in read_metrics(run / "metrics.jsonl")] == list(range(1, 41))


def test_a_running_mean_leaves_gaps_out() -> None:
    means = running_mean([2.0, float("nan"), 4.0, *[6.0] * 20])
    assert means[:3].tolist() == [2, 2, 3]
    assert means[-1] == 6
    assert np.isnan(running_mean([float("nan"), 1.0])[0])


def test_running_mean_is_the_mean_of_the_window() -> None:
    values = list(np.random.default_rng(0).normal(size=1000))
    means = running_mean(values)
    assert means[0] == pytest.approx(values[0])
    assert means[500] == pytest.approx(np.mean(values[481:501]))


def test_a_curve_goes_on_after_a_gap() -> None:
    """A skipped step has no loss, but the line of the mean still crosses the whole width."""
    losses = [1.0, 0.9, float("nan"), *(0.8 - 0.01 * step for step in range(30))]
    steps = range(1, len(losses) + 1)
    assert line_length(data_uri(loss_curve(steps, losses))) > 400
    assert line_length(data_uri(loss_curve(steps, [float("nan")] * len(losses)))) < 100


def test_only_images_become_data_uris() -> None:
    assert data_uri(b"RIFF\0\0\0\0WEBPVP8 ") == "data:image/webp;base64,UklGRgAAAABXRUJQVlA4IA=="
    assert data_uri(b"<script>") is None
