"""Memory against time of activation checkpointing: `python benchmarks/activation.py [--plot docs/activation.png]`.

The models are a chain of 100 blocks of different sizes, a U-Net, a DiT and diffusers' own U-Net. Each runs with every
policy and with budgets from 10 % to 100 % of the memory that it needs without checkpointing. The peers are PyTorch's
`checkpoint_sequential` (on the chain), diffusers' own switch (on its U-Net) and, with everything compiled by
torch.compile, PyTorch's `activation_memory_budget`. For each policy and peer, a budget of the same number of bytes then
shows whether a plan is as fast in the same memory.

Memory is the most that the allocator hands out in a step beyond what was allocated before it. On a GPU it comes from
the allocator's statistics, on a CPU from the profiler, which also counts the bytes that compiled code allocates. Time
is the minimum over the repeats, with the sides interleaved; on a CPU it is the CPU time of the computing thread.
`--quick` uses small models and two repeats.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint_sequential

from headrace import activation
from headrace.errors import RecipeError
from headrace.models import Caption, build
from headrace.recipe.model import DiT, UNet

POLICIES = ("none", "full", "every_k", "sqrt", "selective")
SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1)
THEIR_SHARES = (1.0, 0.8, 0.6, 0.4, 0.2, 0.0)
SETTLED = 8
"""steps until a budget's plan is followed"""


class ChainBlock(nn.Module):
    """A residual block of a Transformer's feed-forward network, of its own width inside."""

    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, inside), nn.Linear(inside, width)

    def forward(self, x_NC: Tensor) -> Tensor:
        return x_NC + self.down(nn.functional.gelu(self.up(self.norm(x_NC))))


@dataclass
class Subject:
    """A model with the loss of one step."""

    model: nn.Module
    loss: Callable[[], Tensor]
    sequence: tuple[nn.Sequential, Tensor] | None = None
    switch: Callable[[bool], None] | None = None
    compiled: bool = False
    """whether to compare it under torch.compile too"""


def chain(device: torch.device, quick: bool) -> Subject:
    """100 blocks that store one to four times the size of their output."""
    width, samples = (32, 64) if quick else (128, 512)
    blocks = nn.Sequential(*(ChainBlock(width, width * (1 + number % 4)) for number in range(100))).to(device)
    blocks.blocks = list(blocks)
    x_NC = torch.randn(samples, width, device=device, requires_grad=True)
    return Subject(blocks, lambda: blocks(x_NC).square().mean(), sequence=(blocks, x_NC), compiled=True)


def inputs(device: torch.device, samples: int) -> tuple[Tensor, Tensor, Caption]:
    """Images, noise levels and captions."""
    caption = Caption(
        torch.ones(samples, 16, dtype=torch.int64, device=device), torch.ones(samples, 16, device=device) > 0
    )
    return torch.randn(samples, 3, 32, 32, device=device), torch.rand(samples, device=device), caption


def u_net(device: torch.device, quick: bool) -> Subject:
    """A U-Net of three levels."""
    channels, samples = (16, 2) if quick else (48, 4)
    recipe = UNet(resolution=32, patch=1, channels=channels, multipliers=(1, 2, 2), attention=(1, 2), blocks=2)
    model = build(recipe).to(device)
    given = inputs(device, samples)
    return Subject(model, lambda: model(*given).square().mean(), compiled=True)


def dit(device: torch.device, quick: bool) -> Subject:
    """A Transformer of 12 blocks."""
    width, samples = (32, 2) if quick else (192, 4)
    model = build(DiT(network="dit", resolution=32, patch=2, width=width, layers=12, heads=4)).to(device)
    given = inputs(device, samples)
    return Subject(model, lambda: model(*given).square().mean(), compiled=True)


def diffusers_u_net(device: torch.device, quick: bool) -> Subject:
    """diffusers' U-Net, with its own switch; our policies work on it too."""
    from diffusers import UNet2DConditionModel

    channels, samples = ((16, 32, 32), 2) if quick else ((48, 96, 96), 4)
    model = UNet2DConditionModel(
        sample_size=32,
        block_out_channels=channels,
        layers_per_block=2,
        cross_attention_dim=64,
        attention_head_dim=8,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        in_channels=3,
        out_channels=3,
    ).to(device)
    model.train()
    x_NCHW, t_N = torch.randn(samples, 3, 32, 32, device=device), torch.randint(0, 1000, (samples,), device=device)
    context_NLD = torch.randn(samples, 16, 64, device=device)

    def switch(on: bool) -> None:
        (model.enable_gradient_checkpointing if on else model.disable_gradient_checkpointing)()

    return Subject(model, lambda: model(x_NCHW, t_N, context_NLD).sample.square().mean(), switch=switch)


SUBJECTS = {"chain": chain, "unet": u_net, "dit": dit, "diffusers": diffusers_u_net}


@dataclass
class Side:
    """One way to run a subject."""

    prepare: Callable[[], object]
    step: Callable[[], object]
    said: list[str] = field(default_factory=list)
    """the lines that a budget reports"""


@dataclass
class Found:
    """The measurements of one side."""

    megabytes: float
    times: list[float] = field(default_factory=list)
    said: str = ""

    @property
    def milliseconds(self) -> float:
        """The shortest time."""
        return 1e3 * min(self.times)


def sides(
    subject: Subject, whole: int, compiled: bool, shares: tuple[float, ...], found: Mapping[str, Found]
) -> Iterator[tuple[str, Side]]:
    """Every side by name; `whole` is the memory without checkpointing, in bytes.

    The last sides are budgets of as many bytes as each policy and peer took. These are read from `found`, so measure
    each side before you ask for the next one.
    """
    model = subject.model
    for policy in POLICIES:
        prepare = partial(activation.apply, model, policy, compile=compiled)
        yield policy, Side(prepare, lambda: subject.loss().backward())
    yield from peers(subject, compiled)
    for share in shares:
        yield f"budget {share:.0%}", budgeted(subject, int(share * whole), compiled)
    for name, side in list(found.items()):
        if name != "none" and not name.startswith("budget"):
            yield f"budget as {name}", budgeted(subject, int(side.megabytes * 1e6), compiled)


def budgeted(subject: Subject, budget: int, compiled: bool) -> Side:
    """A budget in bytes: the first passes measure, the later ones follow the plan."""
    model, device = subject.model, next(subject.model.parameters()).device
    side = Side(lambda: None, lambda: None)

    def prepare() -> None:
        side.said.clear()
        applied = activation.apply(model, budget, report=side.said.append, compile=compiled)

        def watched() -> None:
            with applied.measure("", device, model.parameters()):
                subject.loss().backward()

        side.step = watched if not compiled else lambda: subject.loss().backward()

    side.prepare = prepare
    return side


def peers(subject: Subject, compiled: bool) -> Iterator[tuple[str, Side]]:
    """The methods of PyTorch and diffusers for the same purpose."""
    model = subject.model
    if subject.sequence is not None and not compiled:
        blocks, x_NC = subject.sequence

        def sequential() -> None:
            checkpoint_sequential(blocks, 10, x_NC, use_reentrant=False).square().mean().backward()

        yield "torch checkpoint_sequential", Side(partial(activation.apply, model, "none"), sequential)
    if subject.switch is not None:
        switch = subject.switch

        def switched() -> None:
            switch(True)
            subject.loss().backward()
            switch(False)

        yield "diffusers' switch", Side(partial(activation.apply, model, "none"), switched)
    if compiled:
        for share in THEIR_SHARES:
            yield f"torch activation_memory_budget {share:.0%}", theirs(subject, share)


def theirs(subject: Subject, share: float) -> Side:
    """The whole loss compiled, with PyTorch's own choice of what to recompute."""
    side = Side(lambda: None, lambda: None)

    def prepare() -> None:
        activation.apply(subject.model, "none")
        torch._functorch.config.activation_memory_budget = share
        compiled = torch.compile(subject.loss, dynamic=False)
        side.step = lambda: compiled().backward()
        side.step()  # compiles while the budget is set
        torch._functorch.config.activation_memory_budget = 1.0

    side.prepare = prepare
    return side


def peak(model: nn.Module, step: Callable[[], object], device: torch.device) -> int:
    """The most bytes that a step takes from the allocator, not counting gradients of parameters."""
    model.zero_grad(set_to_none=False)
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        step()
    nodes = list(profiled.profiler.kineto_results.experimental_event_tree())
    changes: list[tuple[int, int]] = []
    while nodes:
        node = nodes.pop()
        nodes += node.children
        if node.tag == torch._C._profiler._EventType.Allocation:
            changes.append((node.start_time_ns, node.extra_fields.alloc_size))
    return max(itertools.accumulate(size for _, size in sorted(changes, key=lambda change: change[0])))


def seconds(model: nn.Module, step: Callable[[], object], device: torch.device) -> float:
    """Seconds of one step; on a CPU, CPU time of this thread."""
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


def measure(subject: Subject, repeats: int, compiled: bool, shares: tuple[float, ...]) -> dict[str, Found]:
    """Measure each side. Budgets that no plan fits are left out."""
    model, device = subject.model, next(subject.model.parameters()).device
    activation.apply(model, "none", compile=compiled)
    subject.loss().backward()  # gradients exist from here on
    whole = peak(model, lambda: subject.loss().backward(), device)
    found: dict[str, Found] = {}
    ready: dict[str, Side] = {}
    for repeat in range(repeats):
        for name, side in sides(subject, whole, compiled, shares, found) if not repeat else list(ready.items()):
            side.prepare()
            try:
                for _ in range(SETTLED if name.startswith("budget") else 2):
                    side.step()
            except RecipeError as error:
                print(f"{name}: {error}")
                continue
            if not repeat:
                ready[name] = side
                found[name] = Found(peak(model, side.step, device) / 1e6)
                found[name].said = next((line for line in side.said if line.startswith("measured")), "")
            for _ in range(3):
                found[name].times.append(seconds(model, side.step, device))
    return found


def show(title: str, found: dict[str, Found]) -> None:
    """Print each side, then how the budget of the same size compares with each policy and peer."""
    none = found["none"]
    print(f"\n{title}\n{'':38}{'MB':>10}{'of none':>9}{'ms':>10}{'slower':>8}")
    for name, side in found.items():
        slower = side.milliseconds / none.milliseconds - 1
        size = f"{side.megabytes:10.1f}{side.megabytes / none.megabytes:9.0%}"
        print(f"{name:38}{size}{side.milliseconds:10.1f}{slower:8.0%}  {side.said}")
    for name, side in found.items():
        if name.startswith("budget") or name == "none":
            continue
        ours = found.get(f"budget as {name}")
        if ours is None:
            print(f"  no plan fits in as little memory as {name}")
        else:
            memory, time_ = ours.megabytes / side.megabytes, ours.milliseconds / side.milliseconds
            print(f"  a budget of the same size as {name}: {memory:.2f} of its memory, {time_:.2f} of its time")


def draw(panels: Mapping[str, dict[str, Found]], path: str) -> None:
    """Save a plot with a panel for each model."""
    rows = -(-len(panels) // 4)
    figure = Figure(figsize=(18, 4 * rows), layout="constrained")
    for place, (title, found) in enumerate(panels.items(), 1):
        panel(figure.add_subplot(rows, min(4, len(panels)), place, title=title, xlabel="MB at most"), found)
    figure.savefig(path, dpi=90)


def panel(axes: Axes, found: dict[str, Found]) -> None:
    """Plot memory against time."""
    axes.set_ylabel("ms a step")
    lines = {"budget": "our budget", "torch activation": "torch's budget"}
    for prefix, label in lines.items():
        points = sorted((f.megabytes, f.milliseconds) for name, f in found.items() if name.startswith(prefix))
        if points:
            axes.plot(*zip(*points, strict=True), "o-", markersize=3, label=label)
    for name, side in found.items():
        if not name.startswith(tuple(lines)):
            axes.plot(side.megabytes, side.milliseconds, "x", color="black")
            axes.annotate(name, (side.megabytes, side.milliseconds), fontsize=7)
    axes.legend(fontsize=7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(SUBJECTS), help="which models, separated by commas")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--compile", choices=["both", "no", "only"], default="both")
    parser.add_argument("--plot", help="the PNG or SVG file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    where = torch.cuda.get_device_name() if device.type == "cuda" else "cpu, one thread"
    panels: dict[str, dict[str, Found]] = {}
    for name in arguments.models.split(","):
        for compiled in (False, True):
            torch.manual_seed(0)
            subject = SUBJECTS[name](device, arguments.quick)
            if arguments.compile == ("no" if compiled else "only") or (compiled and not subject.compiled):
                continue
            shares = SHARES[::2] if compiled or arguments.quick else SHARES
            found = measure(subject, 2 if arguments.quick else arguments.repeats, compiled, shares)
            title = f"{name}{', compiled' if compiled else ''}"
            show(f"{title} on {where}", found)
            panels[title] = found
            torch.compiler.reset()
    if arguments.plot:
        draw(panels, arguments.plot)


if __name__ == "__main__":
    main()
