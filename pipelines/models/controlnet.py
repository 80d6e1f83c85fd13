"""ControlNet: a trainable copy of a frozen U-Net's encoder, conditioned on an image (Zhang et al. 2023)."""

import copy
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from headrace.models.blocks import zero
from headrace.models.conditions import Conditioning
from headrace.models.text import Caption, Context
from headrace.models.unet import TextToImage


class Control(NamedTuple):
    """The base's conditioning, and a condition image for each ControlNet."""

    conditioning: Conditioning | Caption | Context
    conditions: tuple[Tensor, ...]
    """one [N, channels, H, W] for each ControlNet, in [0, 1], the size of the image (not of its latent)"""
    strengths_NK: Tensor
    """the strength of each ControlNet for each sample: 1 as trained, 0 for none"""

    def ignored(self) -> "Control":
        """A copy with all strengths 0, for the unconditional half of guidance in guess mode."""
        return self._replace(strengths_NK=torch.zeros_like(self.strengths_NK))


class ConditionEncoder(nn.Sequential):
    """From a full-size image to the first feature map: convolutions that halve it down to the grid of patches."""

    def __init__(self, channels_in: int, channels_out: int, patch: int) -> None:
        halvings = round(math.log2(patch))
        if 2**halvings != patch:
            raise ValueError(f"patch: found {patch}, expected a power of 2")
        layers: list[nn.Module] = [nn.Conv2d(channels_in, 16, 3, padding=1), nn.SiLU()]
        width = 16
        for _ in range(halvings):
            layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.SiLU()]
            width *= 2
        super().__init__(*layers, zero(nn.Conv2d(width, channels_out, 3, padding=1)))


class ControlNet(nn.Module):
    """Residuals for a U-Net's skips and middle, zero before training."""

    def __init__(self, base: TextToImage, channels: int = 1, scale: int = 1) -> None:
        """Copy the encoder of `base`.

        `channels` are those of the condition. `scale` is how many times larger the condition is than what the base
        denoises: 1 for images, the autoencoder's stride for latents.
        """
        super().__init__()
        self.scale = scale
        self.encoder = copy.deepcopy(base.unet.encoder).requires_grad_(True)
        self.channels = channels
        first = self.encoder.conv_in.out_channels
        self.condition = ConditionEncoder(channels, first, base.unet.patch * scale)
        widths = [*self.encoder.skip_widths, self.encoder.skip_widths[-1]]
        self.joints = nn.ModuleList(zero(nn.Conv2d(width, width, 1)) for width in widths)

    def forward(self, x_NCHW: Tensor, c_noise_N: Tensor, context: Context, condition_NCHW: Tensor) -> list[Tensor]:
        """The residuals of each skip, in order, and of the middle."""
        height, width = x_NCHW.shape[-2:]
        expected = (len(x_NCHW), self.channels, height * self.scale, width * self.scale)
        if condition_NCHW.shape != expected:
            raise ValueError(f"condition: found {list(condition_NCHW.shape)}, expected {list(expected)}")
        h_NCHW = self.encoder.first(x_NCHW) + self.condition(condition_NCHW)
        skips, middle = self.encoder(h_NCHW, self.encoder.embed(c_noise_N, context), context)
        return [joint(h) for joint, h in zip(self.joints, [*skips, middle], strict=True)]


class Controlled(nn.Module):
    """A frozen text-to-image network with ControlNets: a network F(x, c_noise, control) like its base.

    In guess mode the residuals are scaled by a factor that grows from 0.1 at full resolution to 1 in the middle (the
    authors' default without a prompt), and the unconditional half of guidance is `control.ignored()`.
    """

    def __init__(self, base: TextToImage, controls: Sequence[ControlNet], guess: bool = False) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.controls = nn.ModuleList(controls)
        self.guess = guess

    def forward(self, x_NCHW: Tensor, c_noise_N: Tensor, control: Control) -> Tensor:
        """Returns [N, C, H, W]. Each ControlNet's residuals are multiplied by its strength, then summed."""
        if len(control.conditions) != len(self.controls):
            raise ValueError(f"conditions: found {len(control.conditions)}, expected {len(self.controls)}")
        context = (
            control.conditioning
            if isinstance(control.conditioning, Context)
            else self.base.encode(control.conditioning)
        )
        total: list[Tensor] | None = None
        for k, (network, condition_NCHW) in enumerate(zip(self.controls, control.conditions, strict=True)):
            strength_N111 = control.strengths_NK[:, k, None, None, None]
            residuals = [strength_N111 * r for r in network(x_NCHW, c_noise_N, context, condition_NCHW)]
            total = residuals if total is None else [a + b for a, b in zip(total, residuals, strict=True)]
        if total is not None and self.guess:
            total = [r * scale for r, scale in zip(total, torch.logspace(-1, 0, len(total)).tolist(), strict=True)]
        return self.base(x_NCHW, c_noise_N, context, total)
