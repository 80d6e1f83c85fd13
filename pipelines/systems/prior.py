"""Priors over the codes of an autoencoder: images drawn code by code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

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
from headrace.recipe import RunRecipe
from headrace.recipe.discrete import KL, AutoregressivePrior
from headrace.recipe.discrete import Prior as PriorRecipe
from headrace.recipe.text import Text
from headrace.recipe.training import Sampling
from headrace.runs import frozen
from headrace.runs.run_folder import RunFolder
from headrace.samplers.autoregressive import Choice, Guidance, sample_codes, sample_window
from headrace.systems import autoencoder
from headrace.systems.image_generator import SampleRequest
from headrace.systems.system import System, model_section

AUTOENCODER = "objective.autoencoder"


class PriorSystem(System):
    """The run of a prior, with the run of the autoencoder whose codes it models."""

    def __init__(self, recipe: RunRecipe) -> None:
        """Also raises RecipeError if `objective.autoencoder` does not name the run of an autoencoder."""
        super().__init__(recipe)
        self.model = model_section(recipe, PriorRecipe, "prior")
        assert isinstance(recipe.objective, AutoregressivePrior)
        self.losses = recipe.objective
        self._autoencoder, self._coder = autoencoder.open_run(recipe.objective.autoencoder, AUTOENCODER)

    def check(self) -> None:
        super().check()
        if self.model.text is not None:
            self.check_column("caption", "the model has text")
        if self.model.labels is not None:
            self.check_column("label", "the model has labels")
        path, coder = self._autoencoder.folder.path, self._coder
        if isinstance(coder.bottleneck, KL):
            expected = "expected that of an autoencoder whose bottleneck is vq or fsq"
            raise RecipeError(f"{AUTOENCODER}: found the run {path}, {expected}")
        for key, found, wanted in (
            ("codes", self.model.codes, coder.bottleneck.codes),
            ("side", self.model.side, coder.resolution // coder.stride),
        ):
            if found != wanted:
                raise RecipeError(f"model.{key}: found {found}, expected {wanted} as in {path}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self._coder.image_channels, self._coder.resolution, self._coder.resolution

    @property
    def text(self) -> Text | None:
        """The `text` section, if the prior is conditioned on captions."""
        return self.model.text

    def objective(self, folder: RunFolder, device: torch.device) -> objectives.Objective:
        coder = self._autoencoder.sealed(device, folder)
        return objectives.CodeLikelihood(self.losses, models.build(self.model).to(device), coder)

    def image_generator(self, folder: RunFolder, device: torch.device) -> PriorImageGenerator:
        """Also raises DataError if the autoencoder's weights have changed."""
        tokenizer = None if self.model.text is None else CaptionTokenizer.load(folder.tokenizer)
        prior: Prior = frozen.network(self.recipe, frozen.newest(folder), device)
        coder = self._autoencoder.sealed(device, folder)
        return PriorImageGenerator(prior, coder, self.model.labels, tokenizer, device)


@dataclass(frozen=True)
class PriorImageGenerator:
    """A prior with the decoder of its codes, and the tokenizer of its captions if it is conditioned on them."""

    prior: Prior
    autoencoder: Autoencoder
    labels: int | None
    tokenizer: CaptionTokenizer | None
    device: torch.device

    @torch.no_grad()
    def draw(self, request: SampleRequest, sampling: Sampling) -> Tensor:
        """The requested images, uint8 [N, C, H, W]. Raises RecipeError for labels that are missing or out of range."""
        draws = Draws(sampling.seed, torch.arange(request.first, request.first + len(request), device=self.device))
        choice = Choice(sampling.temperature, sampling.top_k, sampling.top_p)
        conditioning = self._conditioning(request.captions, self._labels(request))
        guidance = None
        if sampling.guidance != 1 and (self.labels is not None or self.tokenizer is not None):
            null = self._conditioning(
                [sampling.negative] * len(request), torch.full_like(conditioning.labels(), NO_LABEL)
            )
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
        """−log₂ p of each image's codes, given its caption or label, as a mean over the codes: float32 [N]."""
        assert request.images is not None
        image_NCHW = from_uint8(request.images.to(self.device))
        nats_N = code_nats(
            self.prior, self.autoencoder, image_NCHW, self._conditioning(request.captions, self._labels(request))
        )
        return nats_N.cpu() / math.log(2)

    def _codes(self, pixels: int) -> int:
        """The number of codes along a side of `pixels` pixels. Raises RecipeError if that side cannot be drawn."""
        stride = self.autoencoder.stride
        if pixels % stride or pixels // stride < self.prior.side:
            least = stride * self.prior.side
            raise RecipeError(f"sampling.pixels: found {pixels}, expected multiples of {stride}, at least {least}")
        return pixels // stride

    def _labels(self, request: SampleRequest) -> Tensor:
        """The requested labels, or `NO_LABEL` if the prior has no classes.

        Raises RecipeError for labels that are missing or out of range.
        """
        nothing_N = torch.full((len(request),), NO_LABEL, device=self.device)
        if self.labels is None:
            return nothing_N
        if request.labels is None:
            raise RecipeError("sampling.labels: found none, expected one for each row: the model has labels")
        if not ((request.labels >= 0) & (request.labels < self.labels)).all():
            found = f"found {sorted(set(request.labels.tolist()))}"
            raise RecipeError(f"sampling.labels: {found}, expected labels from 0 to {self.labels - 1}")
        return request.labels.to(self.device)

    def _conditioning(self, captions: Sequence[str | None], label_N: Tensor) -> Conditioning:
        if self.tokenizer is None:
            return Conditioning(label_N)
        tokens_NL, mask_NL = self.tokenizer.encode(captions)
        return Conditioning(label_N, Caption(tokens_NL.to(self.device), mask_NL.to(self.device)))
