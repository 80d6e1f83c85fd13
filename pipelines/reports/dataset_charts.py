"""Histograms of a dataset, as bars that the report's page draws."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.reports.dataset_sample import Sampled

BINS = 24
BARS = 12


@dataclass(frozen=True)
class Bar:
    """One bar: its label, its count, and its length as a fraction (0 to 1) of the longest."""

    label: str
    count: int
    share: float


@dataclass(frozen=True)
class Chart:
    """A histogram. `upright` bars are the bins of a quantity, in order; other bars are values, most frequent first."""

    title: str
    note: str
    bars: list[Bar]
    upright: bool

    @property
    def width(self) -> float:
        """The width of an upright bar, where the drawing is 100 wide."""
        return 100 / len(self.bars)

    @property
    def most(self) -> int:
        """The count of the longest bar."""
        return max(bar.count for bar in self.bars)


def charts(sampled: Sampled, has_languages: bool) -> list[Chart]:
    """The charts of a sample: caption lengths, languages, image sizes, captions per image."""
    made = [
        _histogram("Words in a caption", sampled.words),
        _histogram("Captions for an image", sampled.captions_per_image),
    ]
    if has_languages:
        made.append(_frequent("Languages of captions", sampled.languages))
    sides = Counter(f"{width} × {height}" for height, width in sampled.sizes)
    made.append(_frequent("Image sizes, width × height", sides))
    return [chart for chart in made if chart.bars]


def _histogram(title: str, values: Sequence[int]) -> Chart:
    """A chart of whole numbers in at most 24 bins of equal width."""
    if not values:
        return Chart(title, "", [], True)
    array = np.asarray(values)
    low, high = int(array.min()), int(array.max())
    step = max(1, -(-(high - low + 1) // BINS))
    counts = np.bincount((array - low) // step)
    starts = [low + step * i for i in range(len(counts))]
    labels = [str(start) if step == 1 else f"{start}–{start + step - 1}" for start in starts]
    note = f"median {np.median(array):g}, mean {array.mean():.1f}, maximum {high}"
    return Chart(title, note, _bars(labels, counts.tolist()), True)


def _frequent(title: str, counted: Mapping[str, int]) -> Chart:
    """A chart of the most frequent values, with the others together in the last bar."""
    ordered = sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    shown = ordered[:BARS]
    if len(ordered) > BARS:
        shown = [*ordered[: BARS - 1], (f"{len(ordered) - BARS + 1:,} others", sum(n for _, n in ordered[BARS - 1 :]))]
    note = f"{len(ordered):,} distinct" if len(ordered) > 1 else ""
    return Chart(title, note, _bars([name for name, _ in shown], [count for _, count in shown]), False)


def _bars(labels: Sequence[str], counts: Sequence[int]) -> list[Bar]:
    most = max(counts, default=1)
    return [Bar(label, count, count / most) for label, count in zip(labels, counts, strict=True)]
