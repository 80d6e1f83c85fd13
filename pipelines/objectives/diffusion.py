"""Denoising diffusion with captions dropped for classifier-free guidance."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipelines.draws import Draws
from pipelines.models import Caption, denoiser
from pipelines.objectives.game import Batch, Move
from pipelines.recipe.objective import Diffusion as DiffusionRecipe


class Diffusion:
    """E‖F − target‖² over noise levels, weighted (Ho et al. 2020, equation 14; Hang et al. 2023, section 3.4).

    A batch holds `image` (float32 [N, 3, H, W] in [−1, 1]), `tokens` (int64 [N, L]) and `tokens_mask` (bool [N, L]).
    """

    def __init__(self, recipe: DiffusionRecipe, model: nn.Module) -> None:
        self.recipe = recipe
        self.model = model
        self.denoiser = denoiser(model, recipe)

    @property
    def players(self) -> Mapping[str, nn.Module]:
        """The network with its caption encoder."""
        return {"model": self.model}

    def moves(self) -> Sequence[Move]:
        """One move."""
        return [Move("denoise", ("model",), self.loss)]

    def loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss over the samples of this rank, and the unweighted error of the network's output."""
        image_NCHW = batch["image"]
        self.denoiser.to(image_NCHW.device)
        sigma_N = self.denoiser.schedule.quantile(draws.uniform("noise level"))
        noise_NCHW = draws.normal("noise", *image_NCHW.shape[1:])
        x_NCHW = image_NCHW + sigma_N.float()[:, None, None, None] * noise_NCHW
        output, c_skip, c_out = self.denoiser.predict(x_NCHW, sigma_N, self.condition(batch, draws))
        # What F must be for D to be the clean image; L_simple is its plain squared error.
        target = (image_NCHW - c_skip * x_NCHW) / c_out
        error_N = (output - target).square().flatten(1).mean(1)
        loss_N = error_N * self.weight(sigma_N, c_out.flatten())
        return loss_N.mean(), {"error": error_N.detach().mean()}

    def condition(self, batch: Batch, draws: Draws) -> Any:
        """What the network is told of each sample: its caption, dropped anew for every sample and step."""
        dropped_N = draws.uniform("drop caption") < self.recipe.drop_caption
        return Caption(batch["tokens"], batch["tokens_mask"]).dropped(dropped_N)

    def weight(self, sigma_N: Tensor, c_out_N: Tensor) -> Tensor:
        """1 for L_simple, else min-SNR-γ: min(SNR, γ) on the error of x₀, hence c_out² times that on F's."""
        if self.recipe.min_snr is None:
            return torch.ones_like(c_out_N)
        return (1 / sigma_N**2).clamp(max=self.recipe.min_snr).float() * c_out_N**2
