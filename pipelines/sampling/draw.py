"""The rows of images that a `sampling` section describes, drawn in batches of bounded size."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headrace.errors import RecipeError
from headrace.recipe import RunRecipe
from headrace.recipe.control import Control
from headrace.recipe.model import DiT, UNet
from headrace.recipe.training import Data, Sampling
from headrace.runs import data
from headrace.sampling.conditions import stack
from headrace.systems.image_generator import ImageGenerator, SampleRequest


@dataclass(frozen=True)
class Rows:
    """The rows of a grid: a title and a request for each."""

    titles: Sequence[str]
    request: SampleRequest
    """one image for each row"""

    def repeated(self, times: int) -> SampleRequest:
        """A request for `times` images of each row, row after row."""
        request = self.request
        labels, conditions, images = (
            None if each is None else each.repeat_interleave(times, 0)
            for each in (request.labels, request.conditions, request.images)
        )
        return SampleRequest(
            [caption for caption in request.captions for _ in range(times)], labels, conditions, images
        )


def rows(recipe: RunRecipe, shape: tuple[int, int, int]) -> Rows:
    """A row for each prompt of `sampling`, or each label, or each of the first samples of the dataset.

    An unconditional denoiser without any of these gets one row. `shape` is that of the images, channels first. Raises
    RecipeError if there are no rows, or if a row lacks a label or condition, DataError if a condition's file is
    unusable.
    """
    found = _rows(recipe, shape)
    files = [recipe.sampling.conditions] if isinstance(recipe.objective, Control) else []
    files += [use.conditions for use in recipe.sampling.controls]
    if not files:
        return found
    return replace(found, request=replace(found.request, conditions=stack(files, found.request, shape)))


def _rows(recipe: RunRecipe, shape: tuple[int, int, int]) -> Rows:
    sampling, model = recipe.sampling, recipe.model
    labels = torch.tensor(sampling.labels) if sampling.labels else None
    if sampling.prompts:
        if labels is not None and len(labels) != len(sampling.prompts):
            expected = f"expected {len(sampling.prompts)}, one for each of sampling.prompts"
            raise RecipeError(f"sampling.labels: found {len(labels)}, {expected}")
        return Rows(sampling.prompts, SampleRequest(sampling.prompts, labels))
    if labels is not None:
        return Rows([str(label) for label in sampling.labels], SampleRequest([None] * len(labels), labels))
    if sampling.examples:
        return _examples(sampling.examples, recipe.data, shape)
    if isinstance(model, UNet | DiT) and model.text is None and model.labels is None:
        return Rows(["samples"], SampleRequest([None]))
    raise RecipeError("sampling.prompts: found none, expected prompts, or sampling.labels, or sampling.examples")


def _examples(count: int, section: Data, shape: tuple[int, int, int]) -> Rows:
    raw = next(iter(data.examples(section, shape, count)))
    images, labels, conditions = (
        None if column is None else raw[column] for column in (section.image, section.label, section.condition)
    )
    captions = [None] * len(raw[section.image]) if section.caption is None else raw[section.caption]
    titles = [caption or f"sample {number}" for number, caption in enumerate(captions)]
    return Rows(titles, SampleRequest(captions, labels, conditions, images))


def draw(
    image_generator: ImageGenerator,
    request: SampleRequest,
    sampling: Sampling,
    drawn: Callable[[int], None] = lambda count: None,
) -> Tensor:
    """Draw the requested images, uint8 [N, C, H, W], in batches of `sampling.batch_size`.

    `drawn(count)` is called after each batch.
    """
    images = []
    for start in range(0, len(request), sampling.batch_size):
        part = request.part(start, start + sampling.batch_size)
        images.append(image_generator.draw(part, sampling))
        drawn(len(part))
    return torch.cat(images)


def slug(prompt: str) -> str:
    """A prompt as part of a file name: ASCII letters, digits and hyphens, or `prompt` if nothing is left."""
    plain = unicodedata.normalize("NFKD", prompt).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:60] or "prompt"


def slugs(prompts: Sequence[str]) -> list[str]:
    """A slug for each prompt, all different."""
    found: list[str] = []
    for prompt in prompts:
        name, number = slug(prompt), 2
        while name in found:
            name, number = f"{slug(prompt)}-{number}", number + 1
        found.append(name)
    return found
