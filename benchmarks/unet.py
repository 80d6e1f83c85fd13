"""One training step and one sampling step of the U-Net, against `diffusers`' conditional U-Net of equal size.

Both get the same feature maps (32×32 images, unshuffled into 2×2 patches), the same caption vectors and the same
precision. Run `python benchmarks/unet.py`; it prints a table. Without a GPU, time is CPU time of one thread, the best
of several runs, so that a busy machine matters little. With a GPU, it is GPU time at batch 256. Memory is the most
bytes of tensors that a step holds at once, beyond weights and inputs; it includes gradients.
"""

import argparse
import time
from collections.abc import Callable

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from headrace import models
from headrace.activation.meter import peak_bytes
from headrace.models import Context
from headrace.recipe.model import UNet
from headrace.recipe.text import Text

LENGTH, WIDTH = 12, 128
BATCH = {"cpu": 32, "cuda": 256}


def ours() -> tuple[nn.Module, Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]]:
    text = Text(vocabulary=300, length=LENGTH, width=WIDTH, layers=1)
    unet = models.build(UNet(channels=64, multipliers=(1, 2), blocks=2, attention=(1,), text=text)).unet

    def call(network: nn.Module, x_NCHW: Tensor, step_N: Tensor, tokens_NLD: Tensor) -> Tensor:
        mask_NL = torch.ones(tokens_NLD.shape[:2], dtype=torch.bool, device=x_NCHW.device)
        return network(x_NCHW, step_N, Context(tokens_NLD, mask_NL, tokens_NLD.mean(1)))

    return unet, call


def theirs(size: int) -> tuple[nn.Module, Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]]:
    """diffusers' U-Net, with the number of channels that brings it nearest to `size` parameters."""

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


def step(network: nn.Module, call: Callable[..., Tensor], inputs: tuple[Tensor, ...], bf16: bool, train: bool) -> None:
    """One call, and in training the backward pass too."""
    with torch.autocast(inputs[0].device.type, torch.bfloat16, enabled=bf16), torch.set_grad_enabled(train):
        out = call(network, *inputs)
    if train:
        out.float().square().mean().backward()
        network.zero_grad()


def seconds(run: Callable[[], None], device: torch.device, runs: int) -> float:
    """Seconds of one step, the best of `runs` after one warm-up run."""
    best = float("inf")
    for number in range(runs + 1):
        if device.type == "cuda":
            torch.cuda.synchronize()
            start = time.perf_counter()
            run()
            torch.cuda.synchronize()
            spent = time.perf_counter() - start
        else:
            start = time.process_time()
            run()
            spent = time.process_time() - start
        best = min(best, spent) if number else best
    return best


def memory(run: Callable[[], None], device: torch.device) -> int:
    """The most bytes that a step holds at once."""
    if device.type == "cpu":
        return peak_bytes(run)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="timed runs of each step; the best counts")
    parser.add_argument("--quick", action="store_true", help="one run, to check that it works")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    unet, call = ours()
    peer, peer_call = theirs(parameters(unet))
    batch = BATCH[device.type]
    images, steps = torch.randn(batch, 3, 32, 32), torch.linspace(0, 999, batch)
    inputs = (images.to(device), steps.to(device), torch.randn(batch, LENGTH, WIDTH).to(device))
    machine = torch.cuda.get_device_name() if device.type == "cuda" else "1 thread of a CPU"
    sizes = f"headrace's U-Net: {parameters(unet):,} parameters; diffusers': {parameters(peer):,}"
    print(f"{sizes}; batch {batch}, {machine}, torch {torch.__version__}.\n")
    print("| precision | step | ours, s | diffusers, s | ratio | ours, MB | diffusers, MB | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for network in (unet, peer):
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for bf16 in (False, True):
        for train in (True, False):
            mine, other = (
                lambda pair=pair, bf16=bf16, train=train: step(*pair, inputs, bf16, train)
                for pair in ((unet, call), (peer, peer_call))
            )
            times = [seconds(run, device, 1 if options.quick else options.runs) for run in (mine, other)]
            bytes_ = [memory(run, device) / 1e6 for run in (mine, other)]
            names = f"{'bf16' if bf16 else 'fp32'} | {'training' if train else 'sampling'}"
            conditioning = f"{times[0]:.3f} | {times[1]:.3f} | {times[0] / times[1]:.2f}"
            held = f"{bytes_[0]:.1f} | {bytes_[1]:.1f} | {bytes_[0] / bytes_[1]:.2f}"
            print(f"| {names} | {conditioning} | {held} |", flush=True)


if __name__ == "__main__":
    main()
