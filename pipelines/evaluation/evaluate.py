"""Measure a finished run: draw images, extract features, compare them. The metrics depend on the run's family."""

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

from headrace.errors import RecipeError
from headrace.evaluation import compare
from headrace.evaluation.compare import Done, Figures
from headrace.evaluation.features import (
    ClassifierExtractor,
    FeatureExtractor,
    Features,
    classifier_extractor,
    extract,
    open_classifier,
    open_extractor,
)
from headrace.evaluation.real import Real, read_real
from headrace.evaluation.reconstruction import codebook_use, similarity
from headrace.models.bottleneck import Normal
from headrace.models.pixels import from_uint8
from headrace.progress import progress
from headrace.recipe import RunRecipe
from headrace.recipe.evaluation import Evaluation
from headrace.recipe.training import Sampling
from headrace.runs.frozen import BaseRun
from headrace.runs.run_folder import RunFolder
from headrace.sampling.draw import draw
from headrace.systems import ImageGenerator, SampleRequest, System, system_for
from headrace.systems.autoencoder import AutoencoderImageGenerator
from headrace.systems.prior import PriorImageGenerator


@dataclass(frozen=True)
class Measurement:
    """The figures of one set of sampling settings."""

    drawn: Tensor
    """uint8 [N, C, H, W]; empty if nothing is drawn"""
    figures: Figures
    """with confidence intervals"""
    counts: dict[str, float]
    """without intervals"""
    seconds_per_image: float
    """wall-clock time"""
    varied: dict[str, Any] = field(default_factory=dict)
    """the keys of `sampling` that a sweep sets, with their values"""
    recognised: Tensor | None = None
    """int64 [N]: the labels that the judge recognises"""


@dataclass(frozen=True)
class Evaluated:
    """The evaluation of a run."""

    extractor: str | None
    judge: str | None
    real: Real
    sampling: Sampling | None
    """None if nothing is drawn"""
    measurements: list[Measurement]
    """one, or one for each combination of a sweep"""


Way = tuple[dict[str, Any], Sampling]
"""a way to draw images: the `sampling` keys that a sweep sets, with their values, and the whole section"""


def evaluate(
    folder: RunFolder, recipe: RunRecipe, device: torch.device, ways: Sequence[Way] | None = None
) -> Evaluated:
    """Measure the run in `folder` as the `evaluation` section of `recipe` says.

    A classifier is measured by its accuracy, an autoencoder by its reconstructions, and any other run by what it draws
    in each of `ways`. By default these are the combinations of `evaluation.sweep` over the `sampling` section.
    Raises RecipeError or DataError, before anything is drawn, if the sections do not fit the run or the dataset.
    """
    evaluation, system = recipe.evaluation, system_for(recipe)
    if recipe.objective.family == "classifier":
        return _classifier(folder, system, device)
    extractor = _extractor(evaluation, device)
    judge = _judge(evaluation, extractor, device)
    ways = list(_ways(recipe.sampling, evaluation)) if ways is None else ways
    image_generator = system.image_generator(folder, device)
    real = read_real(system, max(evaluation.images, evaluation.reals or 0))
    with _bar("features of real images", len(real.images)) as done:
        features = extract(extractor, real.images, evaluation.batch_size, done)
        features = features.part(evaluation.reals or evaluation.images)
    found = []
    for number, (varied, sampling) in enumerate(ways):
        name = f" {number + 1}/{len(ways)}" if len(ways) > 1 else ""
        drawn, seconds = _drawn(image_generator, real, sampling, evaluation, name)
        figures, counts, labels = _compared(drawn, real, features, extractor, judge, evaluation, name)
        if recipe.objective.family == "autoencoder":
            originals = real.images[: len(drawn)]
            figures |= compare.means(similarity(originals, drawn), evaluation)
            counts |= _codes(image_generator, originals, evaluation)
        if isinstance(image_generator, PriorImageGenerator):
            figures |= compare.means({"bits_per_code": _bits(image_generator, real.request, evaluation)}, evaluation)
        found.append(Measurement(drawn, figures, counts, seconds / len(drawn), varied, labels))
    return Evaluated(extractor.name, None if judge is None else judge.name, real, ways[0][1], found)


def _classifier(folder: RunFolder, system: System, device: torch.device) -> Evaluated:
    """Accuracy on real images, without noise."""
    evaluation = system.recipe.evaluation
    extractor = classifier_extractor(BaseRun("run", folder, system.recipe), device)
    if evaluation.label is None and system.recipe.data.label is None:
        raise RecipeError("data.label: found nothing, expected the column of labels")
    real = read_real(system, evaluation.images)
    assert real.labels is not None
    with _bar("classify", len(real.images)) as done:
        labels = extract(extractor, real.images, evaluation.batch_size, done).labels
    assert labels is not None
    figures = compare.means({"accuracy": compare.agreement(real.labels, labels)}, evaluation)
    nothing = torch.empty(0, *real.images.shape[1:], dtype=torch.uint8)
    return Evaluated(extractor.name, None, real, None, [Measurement(nothing, figures, {}, 0.0, recognised=labels)])


def _extractor(evaluation: Evaluation, device: torch.device) -> FeatureExtractor:
    if evaluation.features is None:
        expected = "expected a run folder of a classifier or a TorchScript file: FID is a distance of its features"
        raise RecipeError(f"evaluation.features: found nothing, {expected}")
    return open_extractor(evaluation.features, "evaluation.features", device)


def _judge(evaluation: Evaluation, extractor: FeatureExtractor, device: torch.device) -> ClassifierExtractor | None:
    """The classifier that recognises what drawn images show; None if `features` is not one and `judge` is not set."""
    if evaluation.judge is not None:
        return open_classifier(evaluation.judge, "evaluation.judge", device)
    if isinstance(extractor, ClassifierExtractor):
        return extractor
    if evaluation.stacked:
        raise RecipeError("evaluation.judge: found nothing, expected a classifier's run folder, for stacked: true")
    return None


def _ways(sampling: Sampling, evaluation: Evaluation) -> Iterator[Way]:
    """Each combination of `evaluation.sweep`, and the `sampling` section with its values."""
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


def _drawn(
    image_generator: ImageGenerator, real: Real, sampling: Sampling, evaluation: Evaluation, name: str
) -> tuple[Tensor, float]:
    request = real.request.part(0, evaluation.images)
    # The request comes from the dataset, not from the rows of the recipe's grid.
    sampling = sampling.model_copy(update={"prompts": (), "labels": (), "examples": len(request)})
    with _bar(f"draw{name}", len(request)) as done:
        start = time.perf_counter()
        drawn_NCHW = draw(image_generator, request, sampling, done)
        return drawn_NCHW, time.perf_counter() - start


def _compared(
    drawn: Tensor,
    real: Real,
    real_features: Features,
    extractor: FeatureExtractor,
    judge: ClassifierExtractor | None,
    evaluation: Evaluation,
    name: str,
) -> tuple[Figures, dict[str, float], Tensor | None]:
    """The figures of drawn images, the figures without intervals, and the labels that the judge recognises."""
    with _bar(f"features{name}", len(drawn)) as done:
        drawn_features = extract(extractor, drawn, evaluation.batch_size, done)
    with _bar(f"compare{name}", compare.SET_HALVES * evaluation.resamples) as done:
        figures = compare.set_figures(real_features.features, drawn_features.features, evaluation, done)
    counts: dict[str, float] = {}
    labels = None
    if evaluation.stacked and judge is not None:
        with _bar(f"modes{name}", drawn.shape[0] * drawn.shape[1]) as done:
            counts = compare.mode_figures(drawn, judge, evaluation, done)
    elif judge is not None:
        labels = drawn_features.labels if judge is extractor else extract(judge, drawn, evaluation.batch_size).labels
    if labels is not None and real.labels is not None:
        right = compare.agreement(real.labels[: len(drawn)], labels)
        figures |= compare.means({"label_agreement": right}, evaluation)
    if real.request.conditions is not None:
        figures |= compare.edge_figures(real.request.conditions[: len(drawn)], drawn, evaluation)
    return figures, counts, labels


def _bits(image_generator: PriorImageGenerator, request: SampleRequest, evaluation: Evaluation) -> Tensor:
    """Bits per code of real images under a prior: float32 [N]."""
    starts = range(0, len(request), evaluation.batch_size)
    return torch.cat([image_generator.bits(request.part(start, start + evaluation.batch_size)) for start in starts])


def _codes(image_generator: ImageGenerator, originals_NCHW: Tensor, evaluation: Evaluation) -> dict[str, float]:
    """How an autoencoder uses its codebook; empty if it has none."""
    assert isinstance(image_generator, AutoencoderImageGenerator)
    if isinstance(image_generator.model.bottleneck, Normal):
        return {}
    parts = originals_NCHW.split(evaluation.batch_size)
    found = [image_generator.model.codes(from_uint8(part.to(image_generator.device))).cpu() for part in parts]
    size = image_generator.model.discrete.size
    return {f"codebook_{name}": value for name, value in codebook_use(torch.cat(found), size).items()}


@contextmanager
def _bar(name: str, total: int) -> Iterator[Done]:
    with progress(name, total, "images" if not name.startswith("compare") else "halves") as bar:
        yield bar.advance
