"""What guidance trades: label agreement and precision against recall, for classifier-free and classifier guidance.

Train runs/fashion-ddpm, its judge and the guide, then run `python benchmarks/results_guidance.py`. The judge is not the
guide: it is another network, trained with another seed.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from results_common import arguments, by_name, cell, measure, save, started, table

from headrace.evaluation.evaluate import Measurement

FREE = (0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
CLASSIFIER = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
SHOWN = ("fid", "precision", "recall", "coverage", "label_agreement")


def main() -> None:
    parser = arguments(__doc__ or "", "runs/fashion-ddpm", 1000)
    parser.add_argument(
        "--guide", default="runs/fashion-guide-16", help="the run folder of a classifier of noisy images"
    )
    parser.add_argument("--steps", type=int, default=25, help="steps of DPM-Solver++ 2M")
    options = parser.parse_args()
    steps = 5 if options.quick else options.steps
    sampler = {"sampler": "dpmpp_2m", "spacing": "trailing", "steps": steps}
    kinds = {
        "classifier-free": {scale: {"guidance": scale} for scale in (FREE[:3] if options.quick else FREE)},
        "classifier": {
            # guidance 0 is the unconditional model: only the classifier brings in the label
            scale: {"guidance": 0.0, "classifier": options.guide, "classifier_scale": scale}
            for scale in (CLASSIFIER[:2] if options.quick else CLASSIFIER)
        },
    }
    ways: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"name": f"{kind}/{scale:g}"}, sampler | keys) for kind, each in kinds.items() for scale, keys in each.items()
    ]
    found = by_name(measure(options, ways))
    rows = []
    for name, measurement in found.items():
        kind, scale = name.split("/")
        rows.append([kind, scale, *(cell(measurement.figures[figure]) for figure in SHOWN)])
    print(table(["guidance", "scale", *SHOWN], rows))
    for kind in kinds:
        best = max(
            (each for each in found if each.startswith(f"{kind}/")),
            key=lambda each: found[each].figures["label_agreement"].value,
        )
        agreement = cell(found[best].figures["label_agreement"])
        print(f"\nBest label agreement by {kind} guidance: {agreement} at scale {best.split('/')[1]} (aim: ≥ 0.97).")
    print("\nClassifier-free guidance at scale 0 is the unconditional model;", end=" ")
    print("at scale 1 it is the conditional model without guidance.")
    _plot(found, list(kinds))


def _plot(found: dict[str, Measurement], kinds: list[str]) -> None:
    figure = Figure(figsize=(10, 3.2), layout="constrained")
    panels = figure.subplots(1, 3)
    for panel, name in zip(panels, ("label_agreement", "precision", "recall"), strict=True):
        for kind in kinds:
            each = {float(key.split("/")[1]): found[key].figures[name] for key in found if key.startswith(f"{kind}/")}
            panel.plot(list(each), [figure.value for figure in each.values()], marker="o", markersize=3, label=kind)
            low, high = [figure.low for figure in each.values()], [figure.high for figure in each.values()]
            panel.fill_between(list(each), low, high, alpha=0.15)
        panel.set_xlabel("scale")
        panel.set_title(name, fontsize=10)
    panels[0].legend(frameon=False, fontsize=8)
    save(figure, "guidance")


if __name__ == "__main__":
    started(main)
