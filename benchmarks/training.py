"""The cost of training with headrace and with others: `python benchmarks/training.py [--quick]`.

It prints three tables, and a fourth on a GPU:

- the trainer against a bare loop (forward, backward, clipping, AdamW) over the same network and a batch in memory;
- a loop with `accelerate` and `diffusers` (its scheduler, its U-Net, its EMA) against our trainer with that same U-Net,
  and with our own U-Net of as many parameters;
- a whole run with its loader and metrics: time spent waiting for the loader, and stalls by saves at one a minute;
- on a GPU: MFU of a large U-Net and a large DiT in bf16, compiled, and the memory that each activation policy holds.

Rounds are interleaved, and the tables have medians over the rounds. Run nothing else on the machine.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from headrace import activation
from headrace.draws import Draws
from headrace.jobs.train import main as train
from headrace.objectives import Objective
from headrace.objectives.objective import Batch, Phase
from headrace.ranks.workers import Workers
from headrace.recipe import load_run_recipe
from headrace.recipe.training import Training
from headrace.runs.run_folder import RunFolder
from headrace.systems import system_for
from headrace.training import flops
from headrace.training.precision import resolve
from headrace.training.trainer import Trainer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
SINGLE = Workers(0, 1, DEVICE)
RESOLUTION, TOKENS, STEPS_OF_NOISE = 32, 12, 1000
POLICIES = ("none", "full", "sqrt", "selective")


def batch_of(size: int, resolution: int = RESOLUTION) -> dict[str, Tensor]:
    """Images and captions in memory."""
    return {
        "image": torch.rand(size, 3, resolution, resolution, device=DEVICE) * 2 - 1,
        "tokens": torch.randint(0, 258, (size, TOKENS), device=DEVICE),
        "tokens_mask": torch.ones(size, TOKENS, dtype=torch.bool, device=DEVICE),
    }


def seconds(step: Callable[[], object], count: int) -> float:
    """Seconds of one step; on a CPU, CPU time of the computing thread, which other processes disturb least."""
    clock = time.perf_counter if DEVICE.type == "cuda" else time.thread_time
    started = clock()
    for _ in range(count):
        step()
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return (clock() - started) / count


def medians(steps: Mapping[str, Callable[[], object]], rounds: int, count: int) -> dict[str, float]:
    """Median seconds of a step of each side, with rounds interleaved."""
    for step in steps.values():
        step()
        step()
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            found[name].append(seconds(step, count))
    return {name: statistics.median(times) for name, times in found.items()}


def table(title: str, times: Mapping[str, float], batch: int, base: str) -> None:
    """Print images a second, and how much longer each side takes than `base`."""
    print(f"\n{title}\n{'':44}{'images/s':>10}{'time':>9}")
    for name, time_ in times.items():
        print(f"{name:44}{batch / time_:10.1f}{time_ / times[base] - 1:+9.1%}")


RECIPE = str(ROOT / "recipes" / "emoji.yaml")


def objective_of(**model: Any) -> Objective:
    """The emoji recipe's objective over its network, or over the network that `model` describes."""
    recipe = load_run_recipe(RECIPE, [f"model={json.dumps(model)}"] if model else [])
    return system_for(recipe).objective(RunFolder(Path("unused")), DEVICE)


def parameters(objective: Objective) -> int:
    """The number of parameters of all networks."""
    return sum(p.numel() for network in objective.networks.values() for p in network.parameters())


def settings(**changes: Any) -> Training:
    """The trainer's settings, the same for all sides but for `changes`."""
    return Training(run="unused", steps=10_000, warmup=0, **changes)


def lists(trainer: Trainer, batch: Batch) -> Callable[[], object]:
    """A step of `trainer` that reads the figures of the previous step, as a run does."""
    unread: list[Any] = []

    def step() -> None:
        figures = trainer.step(batch)
        if unread:
            unread.pop().read()
        unread.append(figures)

    return step


def beside_bare(batch_size: int, rounds: int, count: int) -> None:
    """The emoji network: the trainer against forward, backward, clipping and AdamW, with and without EMA."""
    recipe = resolve(load_run_recipe(RECIPE), SINGLE)
    batch = batch_of(batch_size)
    plain = objective_of()
    network = plain.networks["model"]
    loss_of = plain.phases()[0].loss
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    draws = Draws(0, torch.arange(batch_size, device=DEVICE))
    autocast = torch.autocast(DEVICE.type, torch.bfloat16, enabled=recipe.training.precision == "bf16")

    def bare() -> None:
        with autocast:
            loss, _ = loss_of(batch, draws)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    averaged = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99)
    )

    def bare_averaged() -> None:
        bare()
        averaged.update_parameters(network)

    trainer = Trainer(objective_of(), recipe.training, batch_size, SINGLE)
    steps = {"bare loop": bare, "bare loop with an average": bare_averaged, "trainer": lists(trainer, batch)}
    title = f"The same network ({parameters(plain) / 1e6:.1f} M parameters, batch {batch_size}, {where()})"
    table(title, medians(steps, rounds, count), batch_size, "bare loop")


class Noise:
    """ε-prediction with diffusers' scheduler and U-Net, as an objective."""

    def __init__(self, network: nn.Module, context_NLD: Tensor) -> None:
        from diffusers import DDPMScheduler

        self.network, self.context_NLD = network, context_NLD
        self.scheduler = DDPMScheduler(num_train_timesteps=STEPS_OF_NOISE)

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"model": self.network}

    def phases(self) -> Sequence[Phase]:
        return [Phase("denoise", ("model",), self.loss)]

    def loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        image_NCHW = batch["image"]
        noise_NCHW = draws.normal("noise", *image_NCHW.shape[1:])
        t_N = (draws.uniform("time") * STEPS_OF_NOISE).long()
        noisy_NCHW = self.scheduler.add_noise(image_NCHW, noise_NCHW, t_N)
        return nn.functional.mse_loss(self.network(noisy_NCHW, t_N, self.context_NLD).sample, noise_NCHW), {}


def their_network() -> nn.Module:
    """diffusers' U-Net of two levels."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=RESOLUTION,
        block_out_channels=(64, 128),
        layers_per_block=1,
        cross_attention_dim=64,
        attention_head_dim=8,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        in_channels=3,
        out_channels=3,
    ).to(DEVICE)


def accelerated(batch: Batch, context_NLD: Tensor, precision: str) -> Callable[[], object]:
    """A training step as diffusers' own scripts write it."""
    from accelerate import Accelerator
    from diffusers import DDPMScheduler
    from diffusers.training_utils import EMAModel

    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision, cpu=DEVICE.type == "cpu")
    network = their_network()
    average = EMAModel(network.parameters(), decay=0.999)
    scheduler = DDPMScheduler(num_train_timesteps=STEPS_OF_NOISE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    rates = torch.optim.lr_scheduler.ConstantLR(optimizer, 1.0)
    network, optimizer, rates = accelerator.prepare(network, optimizer, rates)

    def step() -> None:
        with accelerator.accumulate(network):
            image_NCHW = batch["image"]
            noise_NCHW = torch.randn_like(image_NCHW)
            t_N = torch.randint(0, STEPS_OF_NOISE, (len(image_NCHW),), device=DEVICE)
            noisy_NCHW = scheduler.add_noise(image_NCHW, noise_NCHW, t_N)
            loss = nn.functional.mse_loss(network(noisy_NCHW, t_N, context_NLD).sample, noise_NCHW)
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            rates.step()
            optimizer.zero_grad()
        average.step(network.parameters())
        loss.detach().item()

    return step


def beside_accelerate(batch_size: int, rounds: int, count: int) -> None:
    """Compare training loops at the same network size."""
    precision = "bf16" if DEVICE.type == "cuda" else "fp32"
    batch = batch_of(batch_size)
    context_NLD = torch.randn(batch_size, TOKENS, 64, device=DEVICE)
    theirs = their_network()
    size = sum(p.numel() for p in theirs.parameters())
    text = {"width": 64, "layers": 1, "heads": 2, "length": TOKENS}
    ours = min(
        (objective_of(channels=width, multipliers=[1, 2], blocks=1, patch=1, text=text) for width in range(48, 128, 8)),
        key=lambda objective: abs(parameters(objective) - size),
    )
    of = settings(precision=precision)
    own = Trainer(ours, of, batch_size, SINGLE)
    same = Trainer(Noise(theirs, context_NLD), of, batch_size, SINGLE)
    base = "accelerate, diffusers' U-Net"
    steps = {
        base: accelerated(batch, context_NLD, precision),
        "our trainer, diffusers' U-Net": lists(same, batch),
        f"our trainer, our U-Net ({parameters(ours) / 1e6:.1f} M)": lists(own, batch),
    }
    title = (
        f"Beside accelerate with diffusers ({size / 1e6:.1f} M parameters, batch {batch_size}, {precision}, {where()})"
    )
    table(title, medians(steps, rounds, count), batch_size, base)


def whole_run(batch_size: int, steps: int) -> None:
    """Print the time spent waiting for the loader, and how long a save holds training up."""
    from tests.tiny_runs import write_dataset

    every = max(1, steps // 5)
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "data", images=300)
        overrides = [
            f"data={{path: {folder}/data, batch_size: {batch_size}}}",
            f"training.run={folder}/run",
            f"training.steps={steps}",
            f"training.checkpoint_every={every}",
        ]
        if train([RECIPE, *overrides]):
            raise SystemExit("the run failed")
        lines = [json.loads(line) for line in (Path(folder) / "run" / "timings.jsonl").read_text().splitlines()]
        size = sum(p.stat().st_size for p in next((Path(folder) / "run" / "checkpoints").iterdir()).iterdir())
    total = sum(line["seconds"] for line in lines)
    waiting, saving = (sum(line[key] * line["seconds"] for line in lines) for key in ("waiting", "saving"))
    each = saving / -(-steps // every)
    print(f"\nA whole run ({steps} steps of {batch_size}, {where()})")
    print(f"{batch_size * steps / total:.1f} images/s; {waiting / total:.2%} of the time waiting for the loader")
    print(f"a save of {size / 1e6:.0f} MB holds training up for {each * 1e3:.0f} ms: {each / 60:.2%} at one a minute")


def on_gpu(rounds: int, count: int) -> None:
    """Print MFU and memory of large networks."""
    text: dict[str, Any] = {"width": 512, "layers": 6, "heads": 8}
    u_net = {"resolution": 64, "patch": 1, "channels": 256, "multipliers": [1, 2, 3], "attention": [1, 2], "text": text}
    dit = {"network": "dit", "resolution": 64, "patch": 2, "width": 1152, "layers": 28, "heads": 16, "text": text}
    large: dict[str, tuple[dict[str, Any], int]] = {"U-Net": (u_net, 64), "DiT": (dit, 32)}
    peak = flops.peak(torch.cuda.get_device_name(), torch.bfloat16)
    for name, (of, size) in large.items():
        print(f"\n{name} in bf16, compiled, batch {size}, 64×64, {where()}")
        print(f"{'policy':12}{'images/s':>10}{'TFLOP/s':>9}{'MFU':>7}{'GB at most':>12}")
        for policy in POLICIES:
            gc.collect()
            torch.cuda.empty_cache()
            objective = objective_of(**of)
            applied = activation.apply(list(objective.networks.values()), policy, compile=True)
            trainer = Trainer(objective, settings(precision="bf16"), size, SINGLE, applied)
            batch = batch_of(size, 64)
            operations = flops.per_step(trainer, batch)
            step = lists(trainer, batch)
            torch.cuda.reset_peak_memory_stats()
            time_ = medians({policy: step}, rounds, count)[policy]
            share = f"{operations / time_ / peak:7.1%}" if peak else "      ?"
            held = torch.cuda.max_memory_allocated() / 1e9
            print(f"{policy:12}{size / time_:10.1f}{operations / time_ / 1e12:9.1f}{share}{held:12.2f}")
            del trainer, objective, step


def where() -> str:
    """The machine in a few words."""
    return torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=6, help="steps of a round")
    parser.add_argument("--quick", action="store_true", help="small batches and two rounds, to check that it works")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batch, rounds, steps = (4, 2, 1) if arguments.quick else (arguments.batch, arguments.rounds, arguments.steps)
    beside_bare(batch, rounds, steps)
    beside_accelerate(batch, rounds, steps)
    whole_run(batch, 10 if arguments.quick else 60)
    if DEVICE.type == "cuda":
        on_gpu(rounds, steps)


if __name__ == "__main__":
    main()
