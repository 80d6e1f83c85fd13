"""Denoising diffusion of images from captions, and drawing by any sampler under guidance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipelines import models, objectives
from pipelines.draws import Draws
from pipelines.models import Caption, CaptionTokenizer, DiT, TextToImage, denoiser
from pipelines.models.denoiser import Denoiser
from pipelines.recipe import Recipe
from pipelines.recipe.text import Text
from pipelines.recipe.training import Sampling
from pipelines.samplers import classifier_free, sample
from pipelines.training import frozen
from pipelines.training.run_folder import RunFolder, Sections
from pipelines.training.systems.artist import Asked

WANTS = frozenset({"caption"})


def image_shape(of: Sections) -> tuple[int, int, int]:
    """The images that the network sees."""
    return of.model.image_channels, of.model.resolution, of.model.resolution


def text(of: Sections) -> Text | Path | None:
    """The network's caption encoder."""
    return of.model.text


def objective(of: Sections, folder: RunFolder, device: torch.device) -> objectives.Objective:
    """Denoising by the network of the recipe."""
    return objectives.Diffusion(of.objective, models.build(of.model).to(device))


@dataclass(frozen=True)
class DiffusionArtist:
    """A denoiser with its tokenizer."""

    denoiser: Denoiser
    model: TextToImage | DiT
    tokenizer: CaptionTokenizer
    shape: tuple[int, int, int]
    """channels, height and width of an image"""
    device: torch.device

    @torch.no_grad()
    def draw(self, asked: Asked, sampling: Sampling) -> Tensor:
        """The captions' images: uint8 [N, C, H, W]."""
        draws = Draws(sampling.seed, torch.arange(asked.first, asked.first + len(asked), device=self.device))
        noise_NCHW = draws.normal("start", *self.shape)
        context, null = (
            self.model.encode(*self._caption(texts)) for texts in (asked.captions, [sampling.negative] * len(asked))
        )
        interval = (sampling.guided_from, sampling.guided_to)
        guided = classifier_free(
            self.denoiser, context, null, sampling.guidance, interval=interval, rescale=sampling.rescale
        )
        generator = torch.Generator(self.device).manual_seed(sampling.seed + asked.first)
        x_NCHW = sample(sampling, guided, noise_NCHW, self.denoiser.schedule.sigmas, generator=generator)
        return ((x_NCHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()

    def _caption(self, texts: Sequence[str | None]) -> Caption:
        tokens_NL, mask_NL = self.tokenizer.encode(texts)
        return Caption(tokens_NL.to(self.device), mask_NL.to(self.device))


def artist(folder: RunFolder, recipe: Recipe, device: torch.device) -> DiffusionArtist:
    """The averaged weights of the run's newest whole checkpoint. Raises DataError if there is none yet."""
    assert recipe.model is not None
    assert recipe.objective is not None
    model = frozen.network(folder, recipe, device)
    tokenizer = CaptionTokenizer.load(folder.tokenizer)
    shape = (recipe.model.image_channels, recipe.model.resolution, recipe.model.resolution)
    return DiffusionArtist(denoiser(model, recipe.objective).to(device), model, tokenizer, shape, device)
