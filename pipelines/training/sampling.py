"""Images drawn from a run: averaged weights, the recipe's prompts, guidance, in batches of bounded size."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines import models
from pipelines.draws import Draws
from pipelines.errors import DataError
from pipelines.models import Caption, CaptionTokenizer, DiT, TextToImage, denoiser
from pipelines.models.denoiser import Denoiser
from pipelines.recipe import Recipe
from pipelines.recipe.training import Sampling
from pipelines.samplers import classifier_free, sample
from pipelines.training.checkpoints import Checkpoints
from pipelines.training.run_folder import RunFolder


@dataclass(frozen=True)
class Artist:
    """A denoiser with its tokenizer: what draws."""

    denoiser: Denoiser
    model: TextToImage | DiT
    tokenizer: CaptionTokenizer
    shape: tuple[int, int, int]
    """channels, height and width of an image"""
    device: torch.device

    @classmethod
    def of(cls, folder: RunFolder, recipe: Recipe, device: torch.device) -> Artist:
        """The averaged weights of the run's newest whole checkpoint. Raises DataError if there is none yet."""
        assert recipe.model is not None
        assert recipe.objective is not None
        checkpoint = Checkpoints(folder.checkpoints).newest()
        if checkpoint is None:
            raise DataError(f"{folder.checkpoints}: found no checkpoint, expected a run that has saved at least one")
        model = models.build(recipe.model)
        model.load_state_dict(checkpoint.tensors("model.ema"))
        model.to(device).eval()
        tokenizer = CaptionTokenizer.load(folder.tokenizer)
        shape = (recipe.model.image_channels, recipe.model.resolution, recipe.model.resolution)
        return cls(denoiser(model, recipe.objective).to(device), model, tokenizer, shape, device)

    @torch.no_grad()
    def draw(self, recipe: Sampling, drawn: Callable[[int], None] = lambda count: None) -> Tensor:
        """Images of all prompts: uint8 [P, I, C, H, W] for P prompts and `per_prompt` I images of each.

        The noise of image i of prompt p follows from (seed, p·I + i) alone, so the size of a batch changes nothing.
        `drawn(count)` is called after each batch.
        """
        prompts = [prompt for prompt in recipe.prompts for _ in range(recipe.per_prompt)]
        images = []
        for start in range(0, len(prompts), recipe.batch_size):
            batch = prompts[start : start + recipe.batch_size]
            images.append(self._batch(batch, start, recipe).cpu())
            drawn(len(batch))
        return torch.cat(images).unflatten(0, (len(recipe.prompts), recipe.per_prompt))

    def _batch(self, prompts: Sequence[str], first: int, recipe: Sampling) -> Tensor:
        draws = Draws(recipe.seed, torch.arange(first, first + len(prompts), device=self.device))
        noise_NCHW = draws.normal("start", *self.shape)
        context, null = (
            self.model.encode(*self._caption(texts)) for texts in (prompts, [recipe.negative] * len(prompts))
        )
        interval = (recipe.guided_from, recipe.guided_to)
        guided = classifier_free(
            self.denoiser, context, null, recipe.guidance, interval=interval, rescale=recipe.rescale
        )
        generator = torch.Generator(self.device).manual_seed(recipe.seed + first)
        x_NCHW = sample(recipe, guided, noise_NCHW, self.denoiser.schedule.sigmas, generator=generator)
        return ((x_NCHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)

    def _caption(self, texts: Sequence[str | None]) -> Caption:
        tokens_NL, mask_NL = self.tokenizer.encode(texts)
        return Caption(tokens_NL.to(self.device), mask_NL.to(self.device))


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
