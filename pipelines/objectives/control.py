"""Training ControlNets: the diffusion objective over a frozen base."""

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from headrace.draws import Draws
from headrace.encoders import ImageEncoder
from headrace.models import Control, Controlled
from headrace.objectives.diffusion import Diffusion
from headrace.objectives.objective import Batch, Phase
from headrace.recipe.objective import Diffusion as DiffusionRecipe


class ControlDiffusion(Diffusion):
    """The loss of `Diffusion` for a network with one ControlNet. Only the ControlNet's parameters are trained.

    `recipe` is the base's. A batch also holds `condition`: float32 [N, C, H, W] in [0, 1], of the image's size. The
    authors drop half of the captions (Zhang et al. 2023, section 3.3), so that the network has to use the condition.
    """

    def __init__(self, recipe: DiffusionRecipe, model: Controlled, latents: ImageEncoder | None = None) -> None:
        super().__init__(recipe, model, latents)
        self.controls = model.controls

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The ControlNets; the base is frozen."""
        return {"control": self.controls}

    def phases(self) -> Sequence[Phase]:
        """The only phase, `denoise`."""
        return [Phase("denoise", ("control",), self.loss)]

    def condition(self, batch: Batch, draws: Draws) -> Control:
        """The conditioning, dropped as in `Diffusion`, and the condition image."""
        condition_NCHW = batch["condition"]
        strengths_NK = torch.ones(len(condition_NCHW), len(self.controls), device=condition_NCHW.device)
        return Control(super().condition(batch, draws), (condition_NCHW,), strengths_NK)
