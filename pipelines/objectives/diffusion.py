"""Denoising diffusion with captions and labels dropped for classifier-free guidance."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from headrace.draws import Draws
from headrace.encoders import ImageEncoder
from headrace.models import Caption, Conditioning, denoiser
from headrace.models.conditions import NO_LABEL
from headrace.objectives.objective import Batch, Phase
from headrace.recipe.objective import Diffusion as DiffusionRecipe


class Diffusion:
    """E‖F − target‖² over noise levels, weighted (Ho et al. 2020, equation 14; Hang et al. 2023, section 3.4).

    A batch holds `image` (float32 [N, C, H, W] in [−1, 1]) and the conditioning: `tokens` (int64 [N, L]) with
    `tokens_mask` (bool [N, L]), `label` (int64 [N]), both or neither. With `latents`, the image's latent is denoised
    instead of the image (Rombach et al. 2022, equation 2).
    """

    def __init__(self, recipe: DiffusionRecipe, model: nn.Module, latents: ImageEncoder | None = None) -> None:
        """Raises RecipeError if `recipe` names an unknown prediction."""
        self.recipe = recipe
        self.model = model
        self.denoiser = denoiser(model, recipe)
        self.latents = latents

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The network, including its caption encoder."""
        return {"model": self.model}

    def phases(self) -> Sequence[Phase]:
        """The only phase, `denoise`."""
        return [Phase("denoise", ("model",), self.loss)]

    def loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        """The mean loss over this rank's samples, and the unweighted error of the network's output."""
        image_NCHW = batch["image"]
        if self.latents is not None:
            with torch.no_grad():
                image_NCHW = self.latents.encode(image_NCHW).float()
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
        """The conditioning of each sample, randomly dropped for every sample and step."""
        dropped_N = draws.uniform("drop caption") < self.recipe.drop_caption
        caption = Caption(batch["tokens"], batch["tokens_mask"]) if "tokens" in batch else None
        label_N = batch["label"] if "label" in batch else torch.full_like(draws.samples, NO_LABEL)
        return Conditioning(label_N, caption).dropped(dropped_N)

    def weight(self, sigma_N: Tensor, c_out_N: Tensor) -> Tensor:
        """1 for L_simple; for min-SNR-γ, min(SNR, γ) on the error of x₀, hence c_out² times that on the error of F."""
        if self.recipe.min_snr is None:
            return torch.ones_like(c_out_N)
        return (1 / sigma_N**2).clamp(max=self.recipe.min_snr).float() * c_out_N**2
