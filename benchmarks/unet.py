"""One training step and one sampling step of the U-Net, against `diffusers`' conditional U-Net of equal size.

Both see the same feature maps (32×32 images, unshuffled into 2×2 patches), the same captions' vectors and the same
precision. Run with `python benchmarks/unet.py`; it prints a table. Time is CPU time of one thread, the best of several
runs, so that a busy machine matters little.
"""

import time
from collections.abc import Callable

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from pipelines import models
from pipelines.models import Context
from pipelines.recipe.model import UNet
from pipelines.recipe.text import Text

BATCH, LENGTH, WIDTH, RUNS = 32, 12, 128, 3


def ours() -> tuple[nn.Module, Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]]:
    text = Text(vocabulary=300, length=LENGTH, width=WIDTH, layers=1)
    unet = models.build(UNet(channels=64, multipliers=(1, 2), blocks=2, attention=(1,), text=text)).unet

    def call(network: nn.Module, x_NCHW: Tensor, step_N: Tensor, tokens_NLD: Tensor) -> Tensor:
        mask_NL = torch.ones(tokens_NLD.shape[:2], dtype=torch.bool, device=x_NCHW.device)
        return network(x_NCHW, step_N, Context(tokens_NLD, mask_NL, tokens_NLD.mean(1)))

    return unet, call


def theirs(size: int) -> tuple[nn.Module, Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]]:
    """Their U-Net with the number of channels that brings it nearest to `size` parameters."""

    def build(channels: int) -> UNet2DConditionModel:
        return UNet2DConditionModel(
            sample_size=16,
            in_channels=12,
            out_channels=12,
            block_out_channels=(channels, 2 * channels),
            layers_per_block=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            cross_attention_dim=WIDTH,
            attention_head_dim=channels // 2,
            norm_num_groups=8,
        )

    unet = min((build(channels) for channels in range(16, 97, 8)), key=lambda u: abs(parameters(u) - size))

    def call(network: nn.Module, x_NCHW: Tensor, step_N: Tensor, tokens_NLD: Tensor) -> Tensor:
        patches = nn.functional.pixel_unshuffle(x_NCHW, 2)
        return nn.functional.pixel_shuffle(network(patches, step_N, tokens_NLD).sample, 2)

    return unet, call


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def seconds(network: nn.Module, call: Callable[..., Tensor], inputs: tuple[Tensor, ...], **how: bool) -> float:
    """CPU seconds of one call, the best of RUNS after one that warms up; `how` says `bf16` and `train`."""
    best = float("inf")
    for run in range(RUNS + 1):
        start = time.process_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=how["bf16"]), torch.set_grad_enabled(how["train"]):
            out = call(network, *inputs)
        if how["train"]:
            out.float().square().mean().backward()
            network.zero_grad()
        best = min(best, time.process_time() - start) if run else best
    return best


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    unet, call = ours()
    peer, peer_call = theirs(parameters(unet))
    inputs = torch.randn(BATCH, 3, 32, 32), torch.linspace(0, 999, BATCH), torch.randn(BATCH, LENGTH, WIDTH)
    print(f"parameters: {parameters(unet):,} ours, {parameters(peer):,} diffusers; batch {BATCH}, 1 thread")
    print("| precision | step | ours, s | diffusers, s | ratio |\n| --- | --- | --- | --- | --- |")
    for network in (unet, peer):
        network.to(memory_format=torch.channels_last)
    for bf16 in (False, True):
        for train in (True, False):
            mine = seconds(unet, call, inputs, bf16=bf16, train=train)
            other = seconds(peer, peer_call, inputs, bf16=bf16, train=train)
            names = f"{'bf16' if bf16 else 'fp32'} | {'training' if train else 'sampling'}"
            print(f"| {names} | {mine:.3f} | {other:.3f} | {mine / other:.2f} |", flush=True)


if __name__ == "__main__":
    main()
