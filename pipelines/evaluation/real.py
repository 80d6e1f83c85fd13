"""The real side of an evaluation: images of the dataset, with what they are to be drawn for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headrace import systems
from headrace.errors import DataError
from headrace.recipe import Recipe
from headrace.recipe.evaluation import Evaluation
from headrace.runs import data
from headrace.runs.run_folder import sections
from headrace.systems import SampleRequest


@dataclass(frozen=True)
class Real:
    """Real images, each once, in a seeded order, and what to ask for to draw each again."""

    request: SampleRequest
    """captions, labels, conditions and the images themselves"""
    labels: Tensor | None
    """int64 [N]: what a judge is to see; None where the dataset tells no labels"""
    source: dict[str, object]
    """where they come from, for the report"""

    @property
    def images(self) -> Tensor:
        """uint8 [N, C, H, W]"""
        assert self.request.images is not None
        return self.request.images


def read_real(recipe: Recipe, evaluation: Evaluation, count: int) -> Real:
    """`count` real images as `evaluation` says, of the shape that the run's system draws.

    Raises RecipeError for a wrong path, partition or column, DataError if there are fewer images.
    """
    of = sections(recipe)
    changes: dict[str, object] = {"flip": 0.0, "label": evaluation.label or of.data.label}
    if evaluation.path is not None:
        changes |= {"path": evaluation.path, "version": None}
    if evaluation.where is not None:
        changes["where"] = evaluation.where
    wanted = of.data.model_copy(update=changes)
    table = data.table(wanted)
    shape = systems.of(recipe).image_shape(of)
    raws, found = [], 0
    for raw in data.one_pass(wanted, shape, evaluation.seed, evaluation.batch_size):
        raws.append(raw)
        found += len(raw[wanted.image])
        if found >= count:
            break
    if found < count:
        raise DataError(f"{wanted.path}: found {found} images, expected at least the {count} to compare with")
    if wanted.label is not None and not isinstance(raws[0][wanted.label], torch.Tensor):
        raise DataError(f"evaluation.label: found a column {wanted.label!r} of text, expected whole numbers")
    images, labels, conditions = (
        None if column is None else torch.cat([raw[column] for raw in raws])[:count]
        for column in (wanted.image, wanted.label, wanted.condition)
    )
    captions = [None] * count
    if wanted.caption is not None:
        captions = [caption for raw in raws for caption in raw[wanted.caption]][:count]
    source = {"path": wanted.path, "version": table.version(), "where": wanted.where, "images": count}
    return Real(SampleRequest(captions, labels if of.data.label else None, conditions, images), labels, source)
