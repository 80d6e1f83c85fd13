"""What the trainer costs beside the bare loop: `python benchmarks/training.py [--steps 60] [--batch 64]`.

The emoji model on a dataset of drawn PNGs that is made on the spot. `bare` is forward, backward, clipping and AdamW on
one batch that lies ready; `trainer` adds moves, draws, averages and figures; `run` is a whole run with its loader, its
metrics and a save every 20 steps, as `timings.jsonl` reports it. Rounds of the first two are interleaved and the median
of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from jobs.train import main as train
from pipelines import models, objectives
from pipelines.draws import Draws
from pipelines.recipe import load_recipe
from pipelines.training.run_folder import sections
from pipelines.training.trainer import Trainer
from pipelines.training.workers import Workers

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "training"))
ROUNDS = 5


def batch_of(size: int, resolution: int, length: int, device: torch.device) -> dict[str, torch.Tensor]:
    return {
        "image": torch.rand(size, 3, resolution, resolution, device=device) * 2 - 1,
        "tokens": torch.randint(0, 258, (size, length), device=device),
        "tokens_mask": torch.ones(size, length, dtype=torch.bool, device=device),
    }


def seconds(step: Callable[[], object], count: int) -> float:
    """Seconds of one step."""
    started = time.perf_counter()
    for _ in range(count):
        step()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return (time.perf_counter() - started) / count


def main() -> None:
    from tiny_runs import write_dataset

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with tempfile.TemporaryDirectory() as folder:
        write_dataset(Path(folder) / "data", images=300)
        overrides = [
            f"data={{path: {folder}/data, batch_size: {arguments.batch}}}",
            f"training.run={folder}/run",
            f"training.steps={arguments.steps}",
            "training.activation=none",
            "training.checkpoint_every=20",
        ]
        recipe_path = str(ROOT / "recipes" / "emoji.yaml")
        of = sections(load_recipe(recipe_path, overrides))
        batch = batch_of(arguments.batch, of.model.resolution, of.model.text.length, device)

        bare_model = models.build(of.model).to(device)
        bare = objectives.Diffusion(of.objective, bare_model).moves()[0].loss
        optimizer = torch.optim.AdamW(bare_model.parameters(), fused=True)
        draws = Draws(0, torch.arange(arguments.batch, device=device))
        autocast = torch.autocast(device.type, torch.bfloat16, enabled=of.training.precision == "bf16")

        def bare_step() -> None:
            with autocast:
                loss, _ = bare(batch, draws)
            loss.backward()
            nn.utils.clip_grad_norm_(bare_model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        objective = objectives.Diffusion(of.objective, models.build(of.model).to(device))
        trainer = Trainer(objective, of.training, arguments.batch, Workers(0, 1, device))
        count = max(1, arguments.steps // ROUNDS)
        bare_step()
        trainer.step(batch)
        rounds = [
            (seconds(bare_step, count), seconds(lambda: trainer.step(batch).read(), count)) for _ in range(ROUNDS)
        ]
        bare_time, trainer_time = (statistics.median(side) for side in zip(*rounds, strict=True))
        train([recipe_path, *overrides])
        lines = [json.loads(line) for line in (Path(folder) / "run" / "timings.jsonl").read_text().splitlines()]
    total = sum(line["seconds"] for line in lines)
    whole = arguments.batch * arguments.steps / total
    waiting, saving = (sum(line[key] * line["seconds"] for line in lines) / total for key in ("waiting", "saving"))
    print(f"{'':10}{'images/s':>10}{'beside bare':>13}   on {device.type}, {torch.get_num_threads()} threads")
    print(f"{'bare':10}{arguments.batch / bare_time:10.1f}")
    print(f"{'trainer':10}{arguments.batch / trainer_time:10.1f}{trainer_time / bare_time - 1:+13.1%}")
    print(f"{'run':10}{whole:10.1f}{arguments.batch / bare_time / whole - 1:+13.1%}")
    print(f"run: {waiting:.1%} of the time waiting for the loader, {saving:.1%} in saves (one in 20 steps)")


if __name__ == "__main__":
    main()
