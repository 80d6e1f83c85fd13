"""Memory against time of activation checkpointing: `python benchmarks/activation.py [--repeats 5] [--plot FILE]`.

For a chain of 100 blocks, whose sizes differ, and for the emoji U-Net: every policy, budgets from 20 % to 100 % of what
no checkpointing takes, and PyTorch's `checkpoint_sequential` on the chain. Memory is the most that a step holds at
once beyond what was there before it: a GPU's allocator peak, on a CPU the bytes of live tensors. Time is the median of
the repeats, sides interleaved; on a CPU it is the time of the one thread that computes, which other work on the
machine disturbs least.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint_sequential

from pipelines.errors import RecipeError
from pipelines.models import Caption, build
from pipelines.recipe.model import UNet
from pipelines.training import activation
from pipelines.training.activation.allocations import peak_bytes

POLICIES = ("none", "full", "every_k", "sqrt", "selective")
SHARES = (1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2)
Step = Callable[[], object]


class ChainBlock(nn.Module):
    """A convolution and a few cheap operations that save a lot."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.depth = depth

    def forward(self, x_NCHW: Tensor) -> Tensor:
        h_NCHW = self.conv(x_NCHW)
        for _ in range(self.depth):
            h_NCHW = torch.tanh(h_NCHW)
        return x_NCHW + h_NCHW


def chain(device: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    """100 blocks that save 2 to 5 activations each."""
    model = nn.Sequential(*(ChainBlock(16, 1 + number % 4) for number in range(100))).to(device)
    model.blocks = list(model)
    x_NCHW = torch.randn(4, 16, 32, 32, device=device)
    return model, lambda: model(x_NCHW).square().mean()


def u_net(device: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    """The model of recipes/emoji.yaml, batch 8."""
    model = build(UNet(resolution=32, patch=2, channels=64, multipliers=(1, 2), attention=(1,))).to(device)
    x_NCHW, noise_N = torch.randn(8, 3, 32, 32, device=device), torch.rand(8, device=device)
    caption = Caption(torch.ones(8, 16, dtype=torch.int64, device=device), torch.ones(8, 16, device=device) > 0)
    return model, lambda: model(x_NCHW, noise_N, caption).square().mean()


def sides(model: nn.Module, loss: Callable[[], Tensor], whole: int) -> dict[str, tuple[Callable[[], None], Step]]:
    """For each side: how to prepare the model, and its step."""

    def step() -> None:
        loss().backward()

    found: dict[str, tuple[Callable[[], None], Step]] = {}
    for policy in POLICIES:
        found[policy] = (lambda policy=policy: activation.apply(model, policy), step)
    for share in SHARES:
        budget = int(share * whole)
        found[f"budget {share:.0%}"] = (
            lambda budget=budget: activation.apply(model, budget, report=lambda table: None),
            step,
        )
    if isinstance(model, nn.Sequential):
        x_NCHW = torch.randn(4, 16, 32, 32, requires_grad=True)

        def sequential() -> None:
            checkpoint_sequential(model, 10, x_NCHW, use_reentrant=False).square().mean().backward()

        found["torch checkpoint_sequential"] = (lambda: activation.apply(model, "none"), sequential)
    return found


def memory(model: nn.Module, step: Step, device: torch.device) -> int:
    model.zero_grad(set_to_none=False)
    gc.collect()
    if device.type != "cuda":
        return peak_bytes(step)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def seconds(model: nn.Module, step: Step, device: torch.device) -> float:
    model.zero_grad(set_to_none=False)
    if device.type != "cuda":
        started = time.thread_time()
        step()
        return time.thread_time() - started
    torch.cuda.synchronize()
    started = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(name: str, device: torch.device, repeats: int) -> dict[str, tuple[float, float]]:
    """Megabytes and seconds of each side; a budget that no plan fits is left out."""
    model, loss = {"chain": chain, "unet": u_net}[name](device)
    loss().backward()  # gradients exist from here on
    activation.apply(model, "none")
    whole = memory(model, lambda: loss().backward(), device)
    peaks: dict[str, int] = {}
    times: dict[str, list[float]] = {}
    for repeat in range(repeats):
        for side, (prepare, step) in sides(model, loss, whole).items():
            if repeat and side not in peaks:
                continue
            prepare()
            try:
                step()  # a budget measures here
                step()
            except RecipeError as error:
                print(f"{name}: {side}: {error}")
                continue
            if not repeat:
                peaks[side] = memory(model, step, device)
            times.setdefault(side, []).append(seconds(model, step, device))
    return {side: (peaks[side] / 1e6, statistics.median(times[side])) for side in peaks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--plot", help="a PNG or SVG to write")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    figure = Figure(figsize=(10, 4), layout="constrained")
    for column, name in enumerate(("chain", "unet")):
        found = measure(name, device, arguments.repeats)
        megabytes, fastest = found["none"]
        print(f"\n{name} on {device.type}\n{'':30}{'MB':>10}{'of none':>9}{'ms':>10}{'slower':>8}")
        for side, (size, time_) in found.items():
            print(f"{side:30}{size:10.1f}{size / megabytes:9.0%}{time_ * 1e3:10.1f}{time_ / fastest - 1:8.0%}")
        axes = figure.add_subplot(1, 2, column + 1, title=name, xlabel="MB at most", ylabel="ms a step")
        budgets = sorted(point for side, point in found.items() if side.startswith("budget"))
        axes.plot([x for x, _ in budgets], [1e3 * y for _, y in budgets], "o-", label="budget")
        for side, (size, time_) in found.items():
            if not side.startswith("budget"):
                axes.plot(size, 1e3 * time_, "x")
                axes.annotate(side, (size, 1e3 * time_))
        axes.legend()
    if arguments.plot:
        figure.savefig(arguments.plot)


if __name__ == "__main__":
    main()
