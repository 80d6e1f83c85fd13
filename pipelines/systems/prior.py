"""Priors over the codes of an autoencoder: images drawn code by code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from headrace import models, objectives
from headrace.draws import Draws
from headrace.errors import RecipeError
from headrace.models import Autoencoder, Caption, CaptionTokenizer, Conditioning
from headrace.models.conditions import NO_LABEL
from headrace.models.pixels import from_uint8, to_uint8
from headrace.models.prior import Prior
from headrace.objectives.prior import code_nats
from headrace.recipe import Recipe
from headrace.recipe.discrete import KL, AutoregressivePrior
from headrace.recipe.discrete import Autoencoder as AutoencoderRecipe
from headrace.recipe.discrete import Prior as PriorRecipe
from headrace.recipe.text import Text
from headrace.recipe.training import Sampling
from headrace.runs import frozen
from headrace.runs.run_folder import RunFolder, Sections, sections
from headrace.samplers.autoregressive import Choice, Guidance, sample_codes, sample_window
from headrace.systems import autoencoder
from headrace.systems.image_generator import SampleRequest

WANTS: frozenset[str] = frozenset()
AUTOENCODER = "objective.autoencoder"


def image_shape(of: Sections) -> tuple[int, int, int]:
    """The images of the autoencoder. Raises RecipeError if it does not fit the prior, or `data` lacks a column."""
    model, objective = _sections(of)
    for key, conditioning in (("caption", model.text), ("label", model.labels)):
        if conditioning is not None and getattr(of.data, key) is None:
            expected = f"expected a column, for model.{'text' if key == 'caption' else 'labels'} is there"
            raise RecipeError(f"data.{key}: found nothing, {expected}")
    _, recipe = frozen.run(objective.autoencoder, AUTOENCODER)
    theirs = recipe.model
    if not isinstance(theirs, AutoencoderRecipe) or isinstance(theirs.bottleneck, KL):
        expected = "expected that of an autoencoder whose bottleneck is vq or fsq"
        raise RecipeError(f"{AUTOENCODER}: found the run {objective.autoencoder}, {expected}")
    for name, found, expects in (
        ("codes", model.codes, theirs.bottleneck.codes),
        ("side", model.side, theirs.resolution // theirs.stride),
    ):
        if found != expects:
            raise RecipeError(f"model.{name}: found {found}, expected {expects} as in {objective.autoencoder}")
    return theirs.image_channels, theirs.resolution, theirs.resolution


def text(of: Sections) -> Text | Path | None:
    """The captions, if the prior is told of them."""
    return _sections(of)[0].text


def objective(of: Sections, folder: RunFolder, device: torch.device) -> objectives.Objective:
    """The likelihood of the codes of the recipe's autoencoder under its prior."""
    model, recipe = _sections(of)
    eyes = autoencoder.load(recipe.autoencoder, AUTOENCODER, device, folder)
    return objectives.CodeLikelihood(recipe, models.build(model).to(device), eyes)


@dataclass(frozen=True)
class PriorImageGenerator:
    """A prior with the decoder of its codes, and the tokenizer of its captions if it reads any."""

    prior: Prior
    autoencoder: Autoencoder
    labels: int | None
    tokenizer: CaptionTokenizer | None
    device: torch.device

    @torch.no_grad()
    def draw(self, request: SampleRequest, sampling: Sampling) -> Tensor:
        """The captions' or labels' images: uint8 [N, C, H, W]. Raises RecipeError if they are not there."""
        draws = Draws(sampling.seed, torch.arange(request.first, request.first + len(request), device=self.device))
        choice = Choice(sampling.temperature, sampling.top_k, sampling.top_p)
        conditioning = self._told(request.captions, self._labels(request))
        guidance = None
        if sampling.guidance != 1 and (self.labels is not None or self.tokenizer is not None):
            null = self._told([sampling.negative] * len(request), torch.full_like(conditioning.labels(), NO_LABEL))
            guidance = Guidance(null, sampling.guidance)
        if sampling.pixels is None:
            codes_NHW = sample_codes(self.prior, conditioning, draws, choice, guidance)
        else:
            height, width = (self._codes(pixels) for pixels in sampling.pixels)
            codes_NHW = sample_window(self.prior, conditioning, draws, choice, guidance, height=height, width=width)
        x_NCHW = self.autoencoder.decode_codes(codes_NHW)
        return to_uint8(x_NCHW)

    @torch.no_grad()
    def bits(self, request: SampleRequest) -> Tensor:
        """−log₂ p of the codes of the images, each told its caption or label; the mean over its codes: float32 [N]."""
        assert request.images is not None
        image_NCHW = from_uint8(request.images.to(self.device))
        nats_N = code_nats(
            self.prior, self.autoencoder, image_NCHW, self._told(request.captions, self._labels(request))
        )
        return nats_N.cpu() / math.log(2)

    def _codes(self, pixels: int) -> int:
        """The codes along a side of so many pixels."""
        stride = self.autoencoder.stride
        if pixels % stride or pixels // stride < self.prior.side:
            least = stride * self.prior.side
            raise RecipeError(f"sampling.pixels: found {pixels}, expected multiples of {stride}, {least} at the least")
        return pixels // stride

    def _labels(self, request: SampleRequest) -> Tensor:
        """The labels asked for; −1 for none. Raises RecipeError if one is no class of the prior's."""
        untold_N = torch.full((len(request),), NO_LABEL, device=self.device)
        if self.labels is None:
            return untold_N
        if request.labels is None:
            raise RecipeError("sampling.labels: found none, expected some, for model.labels is there")
        if not ((request.labels >= 0) & (request.labels < self.labels)).all():
            found = f"found {sorted(set(request.labels.tolist()))}"
            raise RecipeError(f"sampling.labels: {found}, expected labels from 0 to {self.labels - 1}")
        return request.labels.to(self.device)

    def _told(self, captions: Sequence[str | None], label_N: Tensor) -> Conditioning:
        if self.tokenizer is None:
            return Conditioning(label_N)
        tokens_NL, mask_NL = self.tokenizer.encode(captions)
        return Conditioning(label_N, Caption(tokens_NL.to(self.device), mask_NL.to(self.device)))


def image_generator(folder: RunFolder, recipe: Recipe, device: torch.device) -> PriorImageGenerator:
    """The averaged weights of the run's newest whole checkpoint. Raises DataError if there is none yet."""
    of = sections(recipe)
    image_shape(of)
    model, objective = _sections(of)
    tokenizer = None if model.text is None else CaptionTokenizer.load(folder.tokenizer)
    prior: Prior = frozen.network(folder, recipe, device)
    eyes = autoencoder.load(objective.autoencoder, AUTOENCODER, device, folder)
    return PriorImageGenerator(prior, eyes, model.labels, tokenizer, device)


def _sections(of: Sections) -> tuple[PriorRecipe, AutoregressivePrior]:
    """The two sections that make a prior. Raises RecipeError if they do not fit each other."""
    assert isinstance(of.objective, AutoregressivePrior)
    if not isinstance(of.model, PriorRecipe):
        raise RecipeError(f"model.network: found {of.model.network!r}, expected 'prior' as objective.family is")
    return of.model, of.objective
