"""GANs of images: two networks, and images drawn by the averaged generator in one pass."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from headrace import objectives
from headrace.draws import Draws
from headrace.errors import RecipeError
from headrace.models import Caption, CaptionTokenizer
from headrace.models.conditions import Conditioning
from headrace.models.gan import build_pair
from headrace.models.pixels import to_uint8
from headrace.recipe import Recipe
from headrace.recipe.gan import Adversarial, Gan
from headrace.recipe.text import Text
from headrace.recipe.training import Sampling
from headrace.runs import frozen
from headrace.runs.run_folder import RunFolder, Sections, sections
from headrace.systems.image_generator import SampleRequest

WANTS: frozenset[str] = frozenset()
TWICE = frozenset({"gradient_penalty", "r1_r2"})
"""regularisers that differentiate gradients"""
WHOLE = TWICE | {"spectral"}
"""regularisers that need whole weights where FSDP2 has a rank's piece: in a second derivative, or between passes"""


def image_shape(of: Sections) -> tuple[int, int, int]:
    """The images of both networks.

    Raises RecipeError if `data` lacks the column that they are conditioned on, or if ranks are to share weights that
    the regulariser needs whole.
    """
    model, recipe = _sections(of)
    if recipe.regulariser in WHOLE and of.training.parallel != "ddp":
        raise RecipeError(
            f"training.parallel: found {of.training.parallel!r}, expected ddp: objective.regulariser "
            f"{recipe.regulariser} needs whole weights, of which each rank would have a piece"
        )
    for key in ("label", "caption"):
        if model.condition == key and getattr(of.data, key) is None:
            raise RecipeError(f"data.{key}: found nothing, expected a column, for model.condition is {key}")
    return model.image_channels, model.resolution, model.resolution


def text(of: Sections) -> Text | Path | None:
    """The caption encoder of both networks, if they have one."""
    model, _ = _sections(of)
    return model.text if model.condition == "caption" else None


def objective(of: Sections, folder: RunFolder, device: torch.device) -> objectives.Objective:
    """The adversarial objective of the recipe, with its two networks."""
    model, recipe = _sections(of)
    generator, discriminator = (network.to(device) for network in build_pair(model))
    return objectives.Adversarial(recipe, generator, discriminator)


@dataclass(frozen=True)
class GanImageGenerator:
    """A generator with the tokenizer of its captions, if it reads any."""

    generator: nn.Module
    model: Gan
    tokenizer: CaptionTokenizer | None
    device: torch.device

    @torch.no_grad()
    def draw(self, request: SampleRequest, sampling: Sampling) -> Tensor:
        """The images asked for, uint8 [N, C, H, W], their z not truncated. Raises RecipeError without labels."""
        draws = Draws(sampling.seed, torch.arange(request.first, request.first + len(request), device=self.device))
        x_NCHW = self.generator(draws.normal("start", self.model.latent), self._condition(request))
        return to_uint8(x_NCHW)

    def _condition(self, request: SampleRequest) -> Conditioning:
        if self.tokenizer is not None:
            tokens_NL, mask_NL = self.tokenizer.encode(request.captions)
            return Conditioning(caption=Caption(tokens_NL.to(self.device), mask_NL.to(self.device)))
        if self.model.condition == "none":
            return Conditioning()
        if request.labels is None:
            raise RecipeError("sampling.labels: found none, expected some, for model.condition is label")
        known = self.model.classes
        if not ((request.labels >= 0) & (request.labels < known)).all():
            raise RecipeError(
                f"sampling.labels: found {request.labels.tolist()}, expected labels from 0 to {known - 1}"
            )
        return Conditioning(label_N=request.labels.to(self.device))


def image_generator(folder: RunFolder, recipe: Recipe, device: torch.device) -> GanImageGenerator:
    """The averaged generator of the run's newest whole checkpoint. Raises DataError if there is none yet."""
    model, _ = _sections(sections(recipe))
    generator = build_pair(model).generator
    frozen.load_averaged(generator, folder, "generator")
    tokenizer = CaptionTokenizer.load(folder.tokenizer) if model.condition == "caption" else None
    return GanImageGenerator(generator.to(device).eval().requires_grad_(False), model, tokenizer, device)


def _check_twice(of: Sections, regulariser: str) -> None:
    """Raise RecipeError if the run uses what torch differentiates once only."""
    found = {"compile": (of.training.compile, "false"), "activation": (of.training.activation, "another policy")}
    for key, (value, expected) in found.items():
        if value is True or value == "selective":
            raise RecipeError(
                f"training.{key}: found {value!r}, expected {expected}: objective.regulariser "
                f"{regulariser} differentiates gradients, which torch does not do through this"
            )


def _sections(of: Sections) -> tuple[Gan, Adversarial]:
    """The two sections that make a GAN. Raises RecipeError if they do not fit each other."""
    assert isinstance(of.objective, Adversarial)
    if not isinstance(of.model, Gan):
        raise RecipeError(f"model.network: found {of.model.network!r}, expected 'gan' as objective.family is")
    if of.objective.regulariser in TWICE and of.model.norm == "batch":
        raise RecipeError(
            f"model.norm: found 'batch', expected none or group: objective.regulariser {of.objective.regulariser} "
            "needs a gradient of each sample's own (Gulrajani et al. 2017, section 4)"
        )
    if of.objective.regulariser in TWICE:
        _check_twice(of, of.objective.regulariser)
    return of.model, of.objective
