"""Measuring a finished run: what is drawn, looked at and compared, by the family of its system."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from headrace import systems
from headrace.errors import RecipeError
from headrace.evaluation import compare
from headrace.evaluation.compare import Done, Figures
from headrace.evaluation.features import ClassifierEyes, Eyes, Seen, look, open_classifier, open_eyes
from headrace.evaluation.real import Real, read_real
from headrace.evaluation.reconstruction import codebook_use, similarity
from headrace.models.bottleneck import Normal
from headrace.progress import progress
from headrace.recipe import Recipe
from headrace.recipe.evaluation import Evaluation
from headrace.recipe.training import Sampling
from headrace.runs.run_folder import RunFolder
from headrace.sampling.draw import draw
from headrace.systems import Artist, Asked
from headrace.systems.autoencoder import AutoencoderArtist
from headrace.systems.prior import PriorArtist


@dataclass(frozen=True)
class Measurement:
    """One way of drawing, measured."""

    drawn: Tensor
    """uint8 [N, C, H, W]; empty where nothing is drawn"""
    figures: Figures
    """figures with intervals"""
    counts: dict[str, float]
    """figures without"""
    seconds_per_image: float
    """wall-clock time of drawing one"""
    varied: dict[str, Any] = field(default_factory=dict)
    """keys of `sampling` that a sweep set"""
    seen: Tensor | None = None
    """int64 [N]: the labels that the judge saw"""


@dataclass(frozen=True)
class Evaluated:
    """A run, measured."""

    eyes: str | None
    judge: str | None
    real: Real
    sampling: Sampling | None
    """None where nothing is drawn"""
    measurements: list[Measurement]
    """one, or one for each combination of a sweep"""


Way = tuple[dict[str, Any], Sampling]
"""A way of drawing: what is said of it, and its settings"""


def evaluate(folder: RunFolder, recipe: Recipe, device: torch.device, ways: Sequence[Way] | None = None) -> Evaluated:
    """Measure the run in `folder` as the `evaluation` section of `recipe` says.

    A classifier is measured by its accuracy, an autoencoder by its reconstructions, anything else by what it draws, in
    each of `ways`; None: in those of `evaluation.sweep`, over the section `sampling`.
    Raises RecipeError or DataError, before anything is drawn, for what does not fit.
    """
    evaluation = recipe.evaluation or Evaluation()
    assert recipe.objective is not None
    if recipe.objective.family == "classifier":
        return _classifier(folder, recipe, evaluation, device)
    eyes = _eyes(evaluation, device)
    judge = _judge(evaluation, eyes, device)
    ways = list(_ways(recipe.sampling or Sampling(), evaluation)) if ways is None else ways
    artist = systems.of(recipe).artist(folder, recipe, device)
    real = read_real(recipe, evaluation, max(evaluation.images, evaluation.reals or 0))
    with _bar("look at real", len(real.images)) as done:
        seen = look(eyes, real.images, evaluation.batch_size, done).part(evaluation.reals or evaluation.images)
    found = []
    for number, (varied, sampling) in enumerate(ways):
        name = f" {number + 1}/{len(ways)}" if len(ways) > 1 else ""
        drawn, seconds = _drawn(artist, real, sampling, evaluation, name)
        figures, counts, labels = _compared(drawn, real, seen, eyes, judge, evaluation, name)
        if recipe.objective.family == "autoencoder":
            originals = real.images[: len(drawn)]
            figures |= compare.means(similarity(originals, drawn), evaluation)
            counts |= _codes(artist, originals, evaluation)
        if isinstance(artist, PriorArtist):
            figures |= compare.means({"bits_per_code": _bits(artist, real.asked, evaluation)}, evaluation)
        found.append(Measurement(drawn, figures, counts, seconds / len(drawn), varied, labels))
    return Evaluated(eyes.name, None if judge is None else judge.name, real, ways[0][1], found)


def _classifier(folder: RunFolder, recipe: Recipe, evaluation: Evaluation, device: torch.device) -> Evaluated:
    """Accuracy on real images, which are not noisy."""
    eyes = open_classifier(str(folder.path), "run", device)
    if evaluation.label is None and (recipe.data is None or recipe.data.label is None):
        raise RecipeError("data.label: found nothing, expected the column of labels")
    real = read_real(recipe, evaluation, evaluation.images)
    assert real.labels is not None
    with _bar("look", len(real.images)) as done:
        seen = look(eyes, real.images, evaluation.batch_size, done)
    assert seen.labels is not None
    figures = compare.means({"accuracy": compare.agreement(real.labels, seen.labels)}, evaluation)
    nothing = torch.empty(0, *real.images.shape[1:], dtype=torch.uint8)
    return Evaluated(eyes.name, None, real, None, [Measurement(nothing, figures, {}, 0.0, seen=seen.labels)])


def _eyes(evaluation: Evaluation, device: torch.device) -> Eyes:
    if evaluation.features is None:
        expected = "expected a run folder of a classifier or a TorchScript file: FID is a distance of its features"
        raise RecipeError(f"evaluation.features: found nothing, {expected}")
    return open_eyes(evaluation.features, "evaluation.features", device)


def _judge(evaluation: Evaluation, eyes: Eyes, device: torch.device) -> ClassifierEyes | None:
    """Who says what drawn images show: nobody, if only a feature network was named."""
    if evaluation.judge is not None:
        return open_classifier(evaluation.judge, "evaluation.judge", device)
    if isinstance(eyes, ClassifierEyes):
        return eyes
    if evaluation.stacked:
        raise RecipeError("evaluation.judge: found nothing, expected a classifier's run folder, for stacked: true")
    return None


def _ways(sampling: Sampling, evaluation: Evaluation) -> Iterator[Way]:
    """Each combination of what is swept, and the `sampling` section with it."""
    unknown = [key for key in evaluation.sweep if key not in Sampling.model_fields]
    if unknown:
        expected = f"expected keys of sampling: {', '.join(Sampling.model_fields)}"
        raise RecipeError(f"evaluation.sweep: found {unknown[0]!r}, {expected}")
    for values in itertools.product(*evaluation.sweep.values()):
        varied = dict(zip(evaluation.sweep, values, strict=True))
        try:
            yield varied, Sampling.model_validate(sampling.model_dump() | varied)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise RecipeError(f"evaluation.sweep.{key}: found {first['input']!r}: {first['msg']}") from None


def _drawn(artist: Artist, real: Real, sampling: Sampling, evaluation: Evaluation, name: str) -> tuple[Tensor, float]:
    asked = real.asked.part(0, evaluation.images)
    # What is asked for comes from the dataset, whatever rows the recipe's own grid has.
    sampling = sampling.model_copy(update={"prompts": (), "labels": (), "examples": len(asked)})
    with _bar(f"draw{name}", len(asked)) as done:
        start = time.perf_counter()
        drawn_NCHW = draw(artist, asked, sampling, done)
        return drawn_NCHW, time.perf_counter() - start


def _compared(
    drawn: Tensor,
    real: Real,
    seen_real: Seen,
    eyes: Eyes,
    judge: ClassifierEyes | None,
    evaluation: Evaluation,
    name: str,
) -> tuple[Figures, dict[str, float], Tensor | None]:
    """The figures of drawn images, those without intervals, and the labels that the judge saw."""
    with _bar(f"look{name}", len(drawn)) as done:
        seen = look(eyes, drawn, evaluation.batch_size, done)
    with _bar(f"compare{name}", compare.SET_HALVES * evaluation.resamples) as done:
        figures = compare.set_figures(seen_real.features, seen.features, evaluation, done)
    counts: dict[str, float] = {}
    labels = None
    if evaluation.stacked and judge is not None:
        with _bar(f"modes{name}", drawn.shape[0] * drawn.shape[1]) as done:
            counts = compare.mode_figures(drawn, judge, evaluation, done)
    elif judge is not None:
        labels = seen.labels if judge is eyes else look(judge, drawn, evaluation.batch_size).labels
    if labels is not None and real.labels is not None:
        right = compare.agreement(real.labels[: len(drawn)], labels)
        figures |= compare.means({"label_agreement": right}, evaluation)
    if real.asked.conditions is not None:
        figures |= compare.edge_figures(real.asked.conditions[: len(drawn)], drawn, evaluation)
    return figures, counts, labels


def _bits(artist: PriorArtist, asked: Asked, evaluation: Evaluation) -> Tensor:
    """Bits per code of real images under a prior: [N]."""
    starts = range(0, len(asked), evaluation.batch_size)
    return torch.cat([artist.bits(asked.part(start, start + evaluation.batch_size)) for start in starts])


def _codes(artist: Artist, originals_NCHW: Tensor, evaluation: Evaluation) -> dict[str, float]:
    """How an autoencoder with a codebook uses it; nothing for one without."""
    assert isinstance(artist, AutoencoderArtist)
    if isinstance(artist.model.bottleneck, Normal):
        return {}
    parts = originals_NCHW.split(evaluation.batch_size)
    found = [artist.model.codes(part.to(artist.device).float() / 127.5 - 1).cpu() for part in parts]
    size = artist.model.discrete.size
    return {f"codebook_{name}": value for name, value in codebook_use(torch.cat(found), size).items()}


@contextmanager
def _bar(name: str, total: int) -> Iterator[Done]:
    with progress(name, total, "images" if not name.startswith("compare") else "halves") as bar:
        yield bar.advance
