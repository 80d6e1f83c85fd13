"""GANs: two networks, of which the averaged generator draws images in one pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headrace import objectives
from headrace.draws import Draws
from headrace.errors import RecipeError
from headrace.models import Caption, CaptionTokenizer
from headrace.models.conditions import Conditioning
from headrace.models.gan import build_pair
from headrace.models.pixels import to_uint8
from headrace.recipe import RunRecipe
from headrace.recipe.gan import Adversarial, Gan
from headrace.recipe.text import Text
from headrace.recipe.training import Sampling
from headrace.runs import frozen
from headrace.runs.run_folder import RunFolder
from headrace.systems.image_generator import SampleRequest
from headrace.systems.system import System, model_section

TWICE = frozenset({"gradient_penalty", "r1_r2"})
"""regularisers that differentiate gradients"""
WHOLE = TWICE | {"spectral"}
"""regularisers that need whole weights, in a second derivative or between passes, where FSDP2 gives a rank a piece"""


class GanSystem(System):
    """The run of a generator and a discriminator."""

    def __init__(self, recipe: RunRecipe) -> None:
        super().__init__(recipe)
        self.model = model_section(recipe, Gan, "gan")
        assert isinstance(recipe.objective, Adversarial)
        self.losses = recipe.objective

    def check(self) -> None:
        super().check()
        training, regulariser = self.recipe.training, self.losses.regulariser
        if self.model.condition != "none":
            self.check_column(self.model.condition, f"model.condition is {self.model.condition}")
        if regulariser in WHOLE and training.parallel != "ddp":
            raise RecipeError(
                f"training.parallel: found {training.parallel!r}, expected ddp: objective.regulariser {regulariser} "
                "needs whole weights, and each rank would have only a piece of them"
            )
        if regulariser in TWICE:
            self._check_second_derivatives()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.model.image_channels, self.model.resolution, self.model.resolution

    @property
    def text(self) -> Text | None:
        """The caption encoder of both networks, if they are conditioned on captions."""
        return self.model.text if self.model.condition == "caption" else None

    def objective(self, folder: RunFolder, device: torch.device) -> objectives.Objective:
        generator, discriminator = (network.to(device) for network in build_pair(self.model))
        return objectives.Adversarial(self.losses, generator, discriminator)

    def image_generator(self, folder: RunFolder, device: torch.device) -> GanImageGenerator:
        generator = build_pair(self.model).generator
        frozen.load_averaged(generator, frozen.newest(folder, "generator"), "generator")
        tokenizer = None if self.text is None else CaptionTokenizer.load(folder.tokenizer)
        return GanImageGenerator(generator.to(device).eval().requires_grad_(False), self.model, tokenizer, device)

    def _check_second_derivatives(self) -> None:
        """Raise RecipeError for settings that rule out second derivatives for each sample separately."""
        regulariser, training = self.losses.regulariser, self.recipe.training
        if self.model.norm == "batch":
            raise RecipeError(
                f"model.norm: found 'batch', expected none or group: objective.regulariser {regulariser} needs the "
                "gradient of each sample by itself (Gulrajani et al. 2017, section 4)"
            )
        found = {"compile": (training.compile, "false"), "activation": (training.activation, "another policy")}
        for key, (value, expected) in found.items():
            if value is True or value == "selective":
                raise RecipeError(
                    f"training.{key}: found {value!r}, expected {expected}: objective.regulariser {regulariser} "
                    "differentiates gradients, which torch does not support with this setting"
                )


@dataclass(frozen=True)
class GanImageGenerator:
    """A generator, with the tokenizer of its captions if it is conditioned on captions."""

    generator: nn.Module
    model: Gan
    tokenizer: CaptionTokenizer | None
    device: torch.device

    @torch.no_grad()
    def draw(self, request: SampleRequest, sampling: Sampling) -> Tensor:
        """The requested images, uint8 [N, C, H, W], from untruncated z.

        Raises RecipeError for labels that are missing or out of range.
        """
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
            raise RecipeError("sampling.labels: found none, expected one for each row: model.condition is label")
        known = self.model.classes
        if not ((request.labels >= 0) & (request.labels < known)).all():
            raise RecipeError(
                f"sampling.labels: found {request.labels.tolist()}, expected labels from 0 to {known - 1}"
            )
        return Conditioning(label_N=request.labels.to(self.device))
