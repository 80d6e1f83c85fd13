"""Few steps against a thousand: the FID of DDIM, DDPM and newer samplers, and how much faster they are.

Train runs/fashion-ddpm and its judge, then run `python benchmarks/results_ddim.py [--images 1000]`. It prints the
tables and saves a plot. On a GPU: `--run runs/fashion-ddpm-gpu --features runs/fashion-judge --images 10000`.
"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from results_common import arguments, by_name, cell, measure, save, started, table

from headrace.evaluation.evaluate import Measurement

STEPS = (10, 20, 50, 100)
PAPER = {10: 13.36, 20: 6.84, 50: 4.67, 100: 4.16, 1000: 4.04}  # DDIM's table 1, CIFAR-10, η = 0
AIMS = {10: 3.3, 20: 1.7, 50: 1.16, 100: 1.03}
KINDS: dict[str, dict[str, Any]] = {
    "η = 0": {"sampler": "ddim", "eta": 0.0},
    "η = 1 (β̃)": {"sampler": "ddpm", "variance": "small"},
    "large variance (β)": {"sampler": "ddpm", "variance": "large"},
}
NEWER: dict[str, dict[str, Any]] = {
    "DPM-Solver++ 2M": {"sampler": "dpmpp_2m", "spacing": "trailing"},
    "DPM-Solver++ 2M, Karras levels": {"sampler": "dpmpp_2m", "spacing": "karras"},
    "UniPC": {"sampler": "unipc", "spacing": "trailing"},
    "Heun, Karras levels": {"sampler": "heun", "spacing": "karras"},
}


def ways(steps: tuple[int, ...], most: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """The name and sampling settings of every row. Heun calls the network twice a step, so it gets half the steps."""
    found = []
    for spacing in ("quadratic", "uniform", "trailing"):
        for kind, keys in KINDS.items():
            if spacing == "trailing" and kind != "η = 0":
                continue
            found += [(_name(kind, spacing, s), keys | {"spacing": spacing, "steps": s}) for s in steps]
    for kind in ("η = 0", "large variance (β)"):
        found.append((_name(kind, "all", most), KINDS[kind] | {"spacing": "uniform", "steps": most}))
    for kind, keys in NEWER.items():
        for s in steps[:3]:
            found.append((_name(kind, "", s), keys | {"steps": s // 2 if "Heun" in kind else s}))
    return [({"name": name}, keys | {"guidance": 1.0}) for name, keys in found]


def _name(kind: str, spacing: str, steps: int) -> str:
    return f"{kind}/{spacing}/{steps}"


def main() -> None:
    parser = arguments(__doc__ or "", "runs/fashion-ddpm", 500)
    parser.add_argument("--most", type=int, default=1000, help="steps of the reference")
    options = parser.parse_args()
    steps = STEPS[:2] if options.quick else STEPS
    most = 100 if options.quick else options.most
    found = by_name(measure(options, ways(steps, most)))
    reference = found[_name("η = 0", "all", most)]
    base = reference.figures["fid"].value
    rows = []
    for spacing in ("quadratic", "uniform", "trailing"):
        for kind in KINDS:
            if _name(kind, spacing, steps[0]) in found:
                cells = [found[_name(kind, spacing, s)] for s in steps]
                rows.append([kind, spacing, *(_fid(each, base) for each in cells)])
    rows += [[kind, "", *(_fid(found[_name(kind, "", s)], base) for s in steps[:3])] for kind in NEWER]
    rows = [[*row, *[""] * (2 + len(steps) - len(row))] for row in rows]
    print(table(["sampler", "spacing", *(f"{s} calls" for s in steps)], rows))
    large = found[_name("large variance (β)", "all", most)].figures["fid"]
    print(f"\nFID at {most} steps: η = 0 {cell(reference.figures['fid'])}, large variance {cell(large)}.")
    print("In brackets: the ratio to η = 0 with all steps. For η = 0 and quadratic spacing, DDIM's paper")
    print(f"(CIFAR-10, Inception) has {', '.join(f'{PAPER[s] / PAPER[1000]:.2f} at {s}' for s in steps)}. The aim is")
    print(f"{', '.join(f'≤ {AIMS[s]} at {s}' for s in steps)}, and ≤ 1.10 at 20 with the best newer sampler.")
    _speed(found, reference, base)
    _plot(found, steps, base)


def _fid(measurement: Measurement, base: float) -> str:
    figure = measurement.figures["fid"]
    return f"{cell(figure)} ({figure.value / base:.2f})"


def _speed(found: dict[str, Measurement], reference: Measurement, base: float) -> None:
    """Print the fastest row whose FID is within 10 % of the FID with all steps."""
    equal = {name: each for name, each in found.items() if each.figures["fid"].value <= 1.1 * base}
    name = min(equal, key=lambda each: equal[each].seconds_per_image)
    kind, spacing, steps = name.split("/")
    ratio = reference.seconds_per_image / equal[name].seconds_per_image
    said = f"{kind}{spacing and f' ({spacing} spacing)'}, {steps} calls"
    print(f"\nThe fastest row whose FID is within 10 % of the FID with all steps: {said}. It is {ratio:.1f} × as fast:")
    times = [1e3 * each.seconds_per_image for each in (equal[name], reference)]
    print(f"{times[0]:.3g} ms per image instead of {times[1]:.3g} ms.")


def _plot(found: dict[str, Measurement], steps: tuple[int, ...], base: float) -> None:
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    lines = [(f"{kind}, {spacing}", kind, spacing) for spacing in ("quadratic", "uniform") for kind in KINDS]
    for label, kind, spacing in [*lines, *((kind, kind, "") for kind in NEWER)]:
        taken = [s for s in steps if _name(kind, spacing, s) in found]
        values = [found[_name(kind, spacing, s)].figures["fid"].value for s in taken]
        axes.plot(taken, values, marker="o", markersize=3, label=label, linestyle="--" if spacing == "uniform" else "-")
    axes.axhline(base, color="#5f6b7a", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("calls of the network")
    axes.set_ylabel("FID (judge's features)")
    axes.legend(frameon=False, fontsize=7)
    save(figure, "ddim")


if __name__ == "__main__":
    started(main)
