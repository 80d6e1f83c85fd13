"""Does a ControlNet follow its edges? Edge F1 and FID, against the base without control.

Train runs/fashion-control and its base, then run `python benchmarks/results_control.py`. Strength 0 is the base: the
same labels and the same noise, without edges.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from results_common import arguments, by_name, cell, measure, save, started, table

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
SHOWN = ("edge_f1_0px", "edge_f1_1px", "fid", "precision", "recall", "label_agreement")


def main() -> None:
    parser = arguments(__doc__ or "", "runs/fashion-control", 1000)
    parser.add_argument("--steps", type=int, default=25, help="steps of DPM-Solver++ 2M")
    options = parser.parse_args()
    strengths = (0.0, 1.0) if options.quick else STRENGTHS
    sampler = {"sampler": "dpmpp_2m", "spacing": "trailing", "steps": 5 if options.quick else options.steps}
    ways: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"name": f"{strength:g}"}, sampler | {"guidance": 1.0, "strength": strength}) for strength in strengths
    ]
    found = by_name(measure(options, ways))
    rows = [[name, *(cell(each.figures[figure]) for figure in SHOWN)] for name, each in found.items()]
    print(table(["strength", *SHOWN], rows))
    base, obeyed = found["0"].figures, found["1"].figures
    ratio = obeyed["edge_f1_0px"].value / base["edge_f1_0px"].value
    fid = obeyed["fid"].value / base["fid"].value
    print(
        f"\nAt strength 1, edge F1 (0 pixels) is {ratio:.2f} × that of the base (aim: ≥ 2 at equal FID) and FID is",
        end=" ",
    )
    print(f"{fid:.2f} × that of the base.\nThe two F1 columns count exact pixels, and pixels within one pixel.")
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    for panel, name in zip(figure.subplots(1, 2), ("edge_f1_0px", "fid"), strict=True):
        values = [each.figures[name] for each in found.values()]
        widths = [each.high - each.value for each in values]
        panel.errorbar(strengths, [each.value for each in values], widths, marker="o", markersize=3, capsize=2)
        panel.set_xlabel("strength")
        panel.set_title(name, fontsize=10)
    save(figure, "control")


if __name__ == "__main__":
    started(main)
