"""What a recipe's `sampling` asks for: rows of images, drawn in batches of bounded size."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headrace.errors import RecipeError
from headrace.recipe.control import Control
from headrace.recipe.model import DiT, UNet
from headrace.recipe.training import Sampling
from headrace.runs import data
from headrace.runs.run_folder import Sections
from headrace.sampling.conditions import stack
from headrace.systems.image_generator import ImageGenerator, SampleRequest


@dataclass(frozen=True)
class Rows:
    """The rows of a grid: what each is called, and what is asked for in it."""

    titles: Sequence[str]
    request: SampleRequest
    """one for each row"""

    def repeated(self, times: int) -> SampleRequest:
        """Each row's image asked for `times` times, row after row."""
        request = self.request
        labels, conditions, images = (
            None if each is None else each.repeat_interleave(times, 0)
            for each in (request.labels, request.conditions, request.images)
        )
        return SampleRequest(
            [caption for caption in request.captions for _ in range(times)], labels, conditions, images
        )


def rows(sampling: Sampling, of: Sections, shape: tuple[int, int, int]) -> Rows:
    """The rows that `sampling` asks for: prompts, or classes, or the first samples of the dataset; else one row.

    `shape` is that of the images, channels first. Raises RecipeError if it asks for nothing, or not for one label or
    condition a row; DataError if a condition's file cannot be used.
    """
    found = _rows(sampling, of, shape)
    files = [*([sampling.conditions] if isinstance(of.objective, Control) else [])]
    files += [use.conditions for use in sampling.controls]
    if not files:
        return found
    return replace(found, request=replace(found.request, conditions=stack(files, found.request, shape)))


def _rows(sampling: Sampling, of: Sections, shape: tuple[int, int, int]) -> Rows:
    labels = torch.tensor(sampling.labels) if sampling.labels else None
    if sampling.prompts:
        if labels is not None and len(labels) != len(sampling.prompts):
            expected = f"expected {len(sampling.prompts)}, one for each of sampling.prompts"
            raise RecipeError(f"sampling.labels: found {len(labels)}, {expected}")
        return Rows(sampling.prompts, SampleRequest(sampling.prompts, labels))
    if labels is not None:
        return Rows([str(label) for label in sampling.labels], SampleRequest([None] * len(labels), labels))
    if sampling.examples:
        return _examples(sampling.examples, of, shape)
    if isinstance(of.model, UNet | DiT) and of.model.text is None and of.model.labels is None:
        return Rows(["samples"], SampleRequest([None]))  # there is nothing to ask such a model for
    raise RecipeError("sampling.prompts: found none, expected prompts, or sampling.labels, or sampling.examples")


def _examples(count: int, of: Sections, shape: tuple[int, int, int]) -> Rows:
    raw = next(iter(data.examples(of.data, shape, count)))
    images, labels, conditions = (
        None if column is None else raw[column] for column in (of.data.image, of.data.label, of.data.condition)
    )
    captions = [None] * len(raw[of.data.image]) if of.data.caption is None else raw[of.data.caption]
    titles = [caption or f"sample {number}" for number, caption in enumerate(captions)]
    return Rows(titles, SampleRequest(captions, labels, conditions, images))


def draw(
    image_generator: ImageGenerator,
    request: SampleRequest,
    sampling: Sampling,
    drawn: Callable[[int], None] = lambda count: None,
) -> Tensor:
    """The images asked for, uint8 [N, C, H, W], in batches of `sampling.batch_size`; `drawn(count)` follows each."""
    images = []
    for start in range(0, len(request), sampling.batch_size):
        part = request.part(start, start + sampling.batch_size)
        images.append(image_generator.draw(part, sampling))
        drawn(len(part))
    return torch.cat(images)


def slug(prompt: str) -> str:
    """A prompt as part of a file's name: ASCII letters, digits and hyphens; `prompt` where none is left."""
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
