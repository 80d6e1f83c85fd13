"""The real images of an evaluation, and the request that draws images like them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from headrace.errors import DataError
from headrace.runs import data
from headrace.systems import SampleRequest, System


@dataclass(frozen=True)
class Real:
    """Real images, each once, in a seeded order, and the request to draw one for each of them."""

    request: SampleRequest
    """captions, labels, conditions and the images themselves"""
    labels: Tensor | None
    """int64 [N]: the labels that a judge should recognise; None if the dataset has no labels"""
    source: dict[str, object]
    """the dataset they come from, for the report"""

    @property
    def images(self) -> Tensor:
        """uint8 [N, C, H, W]"""
        assert self.request.images is not None
        return self.request.images


def read_real(system: System, count: int) -> Real:
    """`count` real images of the shape that the system draws, chosen as the `evaluation` section says.

    Raises RecipeError for a wrong path, partition or column, DataError if there are fewer images.
    """
    own, evaluation = system.recipe.data, system.recipe.evaluation
    changes: dict[str, object] = {"flip": 0.0, "label": evaluation.label or own.label}
    if evaluation.path is not None:
        changes |= {"path": evaluation.path, "version": None}
    if evaluation.where is not None:
        changes["where"] = evaluation.where
    section = own.model_copy(update=changes)
    section = section.model_copy(update={"version": data.version_of(section)})
    raws, found = [], 0
    for raw in data.one_pass(section, system.image_shape, evaluation.seed, evaluation.batch_size):
        raws.append(raw)
        found += len(raw[section.image])
        if found >= count:
            break
    if found < count:
        raise DataError(f"{section.path}: found {found} images, expected at least the {count} to compare with")
    if section.label is not None and not isinstance(raws[0][section.label], torch.Tensor):
        raise DataError(f"evaluation.label: found a column {section.label!r} of text, expected whole numbers")
    images, labels, conditions = (
        None if column is None else torch.cat([raw[column] for raw in raws])[:count]
        for column in (section.image, section.label, section.condition)
    )
    captions = [None] * count
    if section.caption is not None:
        captions = [caption for raw in raws for caption in raw[section.caption]][:count]
    source: dict[str, object] = {
        "path": section.path,
        "version": section.version,
        "where": section.where,
        "images": count,
    }
    return Real(SampleRequest(captions, labels if own.label else None, conditions, images), labels, source)
