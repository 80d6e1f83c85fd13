"""An evaluation in a run's folder: writing `evaluation.json` and its pictures, and reading them for a report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.evaluation.evaluate import Evaluated, Measurement
from headrace.files import write_bytes, write_text
from headrace.reports.figures import confusion, gathered, rows_of, sweep_curves
from headrace.reports.pictures import data_uri
from headrace.sampling.grid import write_grid

FILE, FOLDER = "evaluation.json", "evaluation"
CURVES = ("fid", "precision", "recall", "label_agreement", "edge_f1_0px")
TITLES = {
    "drawn.png": "Drawn",
    "real.png": "Real",
    "labels.png": "Labels requested and recognised",
    "sweep.png": "The sweep",
}


@dataclass(frozen=True)
class EvaluationCard:
    """What the page shows about an evaluation."""

    facts: list[tuple[str, str]]
    header: list[str]
    rows: list[list[str]]
    """a row for each figure, with its name and a value for each measurement"""
    pictures: list[tuple[str, str]]
    """(title, data URI)"""


def write_evaluation(folder: Path, evaluated: Evaluated, settings: dict[str, Any]) -> Path:
    """Write `evaluation.json` and its pictures to a run's folder, and return the path of the JSON file.

    `settings` are added to the JSON unchanged.
    """
    pictures = folder / FOLDER
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    _write_pictures(pictures, evaluated)
    sampling = None if evaluated.sampling is None else evaluated.sampling.model_dump(mode="json")
    text = json.dumps(
        {
            "features": evaluated.extractor,
            "judge": evaluated.judge,
            "real": evaluated.real.source,
            **settings,
            "sampling": sampling,
            "measurements": [_as_json(each) for each in evaluated.measurements],
        },
        indent=2,
        ensure_ascii=False,
    )
    write_text(folder / FILE, text + "\n")
    return folder / FILE


def _as_json(measurement: Measurement) -> dict[str, Any]:
    return {
        "varied": measurement.varied,
        "images": len(measurement.drawn),
        "seconds_per_image": measurement.seconds_per_image,
        "figures": {name: each.as_json() for name, each in measurement.figures.items()},
        "counts": measurement.counts,
    }


def _write_pictures(folder: Path, evaluated: Evaluated) -> None:
    last = evaluated.measurements[-1]
    real = evaluated.real
    if len(last.drawn):
        request = real.request.part(0, len(last.drawn))
        names = request.captions if real.labels is None else real.labels[: len(last.drawn)].tolist()
        rows = rows_of(names)
        titles = [title or "any" for title, _ in rows]
        write_grid(folder / "drawn.png", titles, gathered(last.drawn, rows))
        write_grid(folder / "real.png", titles, gathered(real.images, rows))
    if last.recognised is not None and real.labels is not None:
        write_bytes(folder / "labels.png", confusion(real.labels[: len(last.recognised)], last.recognised))
    varied = [each.varied for each in evaluated.measurements]
    if any(all(isinstance(each[key], int | float) for each in varied) for key in varied[0]):
        curves = sweep_curves(varied, [each.figures for each in evaluated.measurements], CURVES)
        write_bytes(folder / "sweep.png", curves)


def read_evaluation(folder: Path) -> EvaluationCard | None:
    """The evaluation of the run in `folder`, or None if it has none."""
    file = folder / FILE
    if not file.is_file():
        return None
    found = json.loads(file.read_text(encoding="utf-8"))
    measurements = found["measurements"]
    real = found["real"]
    where = ", ".join(f"{name} {value}" for name, value in real["where"].items())
    facts = [
        ("features", found["features"] or "none"),
        ("label classifier", found["judge"] or "none"),
        ("real images", f"{real['images']:,} of {real['path']}, version {real['version']}{where and ', '}{where}"),
        ("drawn images", f"{measurements[0]['images']:,}"),
    ]
    names = [*measurements[0]["figures"], *measurements[0]["counts"]]
    header = ["", *(_in_words(each["varied"]) for each in measurements)]
    rows = [[name, *(_shown(each, name) for each in measurements)] for name in names]
    if measurements[0]["images"]:
        rows.append(["seconds per image", *(f"{each['seconds_per_image']:.3g}" for each in measurements)])
    pictures = [
        (title, uri)
        for name, title in TITLES.items()
        if (folder / FOLDER / name).is_file() and (uri := data_uri((folder / FOLDER / name).read_bytes()))
    ]
    return EvaluationCard(facts, header, rows, pictures)


def _in_words(varied: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in varied.items()) or "value, with 95 % confidence interval"


def _shown(measurement: dict[str, Any], name: str) -> str:
    if name in measurement["counts"]:
        return f"{measurement['counts'][name]:,.4g}"
    figure = measurement["figures"][name]
    return f"{figure['value']:.4g} [{figure['low']:.4g}, {figure['high']:.4g}]"
