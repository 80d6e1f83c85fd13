"""How many of 25 Gaussians on a grid does each kind of GAN find? Modes covered, and the share of good samples.

The grid is {−4, −2, 0, 2, 4}², the deviation 0.05. A sample is good if it is within 3 deviations of a mode, and a mode
is covered if at least one of 2,500 samples is good for it (Srivastava et al. 2017, section 5.1; Lin et al. 2018,
section 4.1). All kinds use the common trainer, MLPs of three layers, and the same number of samples for the
discriminator. Run `python benchmarks/gaussians.py`; it prints a table, with the exact W₁ between 1,000 samples and
1,000 points of the data, and writes docs/gaussians.png. `--quick` trains for a twentieth of the steps and writes no
picture.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from points import PointDiscriminator, PointGenerator
from torch import Tensor, nn

from headrace.draws import Draws
from headrace.evaluation.transport import exact_w1
from headrace.objectives import Adversarial
from headrace.progress import progress
from headrace.ranks.workers import Workers
from headrace.recipe.gan import Adversarial as AdversarialRecipe
from headrace.recipe.training import Training
from headrace.training.trainer import Trainer

SIDE, SPACING, DEVIATION, SAMPLES, BATCH, LATENT = 5, 2.0, 0.05, 2500, 256, 2
SCALE = SPACING * math.sqrt(2)
"""the grid's deviation along each axis; the networks work on points divided by it"""
PICTURE = Path("docs/gaussians.png")

SLOW, FAST = {"learning_rate": 1e-3, "beta1": 0.5}, {"learning_rate": 2e-3, "beta1": 0.0}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "GAN": ({"loss": "non_saturating"}, SLOW),
    "GAN, minimax": ({"loss": "minimax"}, SLOW),
    "WGAN, clipping": ({"loss": "wasserstein", "regulariser": "clip", "clip": 0.1, "rounds": 2}, FAST),
    "WGAN, gradient penalty": (
        {"loss": "wasserstein", "regulariser": "gradient_penalty", "penalty": 0.1, "rounds": 2},
        FAST,
    ),
    "WGAN, spectral norm": ({"loss": "wasserstein", "regulariser": "spectral", "rounds": 2}, FAST),
    "R3GAN": (
        {"loss": "relativistic", "regulariser": "r1_r2", "gamma": 0.02, "gamma_final": 0.0005, "burn_in": 400_000},
        FAST,
    ),
}
"""each kind's objective and AdamW settings, found in a few trials of 3,000 rounds"""
MODES_2 = (torch.cartesian_prod(*[torch.arange(SIDE)] * 2) - SIDE // 2) * SPACING  # [25, 2]


def data(draws: Draws) -> Tensor:
    """Points of the mixture, [N, 2], divided by SCALE."""
    mode_N = (draws.uniform("mode")[:, None] * len(MODES_2)).long().squeeze(1)
    return (MODES_2[mode_N] + DEVIATION * draws.normal("point", 2)) / SCALE


def train(name: str, steps: int, seed: int) -> tuple[nn.Module, float]:
    """The averaged generator after `steps` rounds of the discriminator, and the CPU seconds of the training."""
    torch.manual_seed(seed)
    objective, settings = KINDS[name]
    recipe = AdversarialRecipe.model_validate({"family": "gan", **objective})
    objective = Adversarial(recipe, PointGenerator(LATENT, 2), PointDiscriminator(2))
    training = Training(
        run="",
        steps=steps,
        seed=seed,
        warmup=0,
        decay="cosine",
        beta2=0.99,
        weight_decay=0,
        clip=math.inf,
        ema=0.99,
        precision="fp32",
        **settings,
    )
    trainer = Trainer(objective, training, BATCH, Workers(0, 1, torch.device("cpu")))
    start = time.process_time()
    for step in range(steps):
        trainer.step({"image": data(Draws(seed + 1, torch.arange(step * BATCH, (step + 1) * BATCH)))})
    seconds = time.process_time() - start
    generator = PointGenerator(LATENT, 2)
    generator.load_state_dict({**objective.generator.state_dict(), **trainer.networks["generator"].ema.averages})
    return generator, seconds


def judge(points_N2: Tensor) -> tuple[int, float]:
    """Modes covered, and the share of good samples."""
    distance_N, mode_N = torch.cdist(points_N2, MODES_2).min(1)
    good_N = distance_N < 3 * DEVIATION
    return len(mode_N[good_N].unique()), float(good_N.float().mean())


def draw(pictures: dict[str, Tensor]) -> None:
    """Save a plot with a panel for the data and for each kind of GAN."""
    figure = Figure(figsize=(3 * len(pictures), 3.2), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, points_N2) in zip(figure.subplots(1, len(pictures)), pictures.items(), strict=True):
        axes.scatter(*points_N2.T.numpy(), s=1.5, color="#1f4e9c", linewidths=0)
        axes.set(title=name, xlim=(-5.5, 5.5), ylim=(-5.5, 5.5), xticks=[], yticks=[], aspect="equal")
    figure.savefig(PICTURE)


@torch.no_grad()
def samples(generator: nn.Module) -> Tensor:
    """Points drawn by a generator, [SAMPLES, 2]."""
    z_NZ = Draws(99, torch.arange(SAMPLES)).normal("start", LATENT)
    return generator(z_NZ) * SCALE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8_000, help="rounds of the discriminator")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each kind; the table has means")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="kinds of GAN")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the steps, no picture")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    steps = arguments.steps // 20 if arguments.quick else arguments.steps
    real_N2 = data(Draws(98, torch.arange(SAMPLES))) * SCALE
    pictures = {"data": real_N2}
    modes, good = judge(real_N2)
    print(f"{steps:,} rounds of {BATCH} points; samples of the data: {modes} modes, {good:.1%} good\n")
    print("| GAN | modes of 25 | good samples | exact W₁ to the data | CPU s |\n| --- | --- | --- | --- | --- |")
    with progress("gaussians", len(arguments.kinds) * arguments.seeds, "runs") as bar:
        rows = []
        for name in arguments.kinds:
            figures = []
            for seed in range(arguments.seeds):
                generator, seconds = train(name, steps, seed)
                points_N2 = samples(generator)
                pictures.setdefault(name, points_N2)
                figures.append((*judge(points_N2), exact_w1(points_N2[:1000], real_N2[:1000]), seconds))
                bar.advance(1)
            modes, good, w1, seconds = (sum(column) / len(figures) for column in zip(*figures, strict=True))
            rows.append(f"| {name} | {modes:g} | {good:.1%} | {w1:.2f} | {seconds:.0f} |")
    print("\n".join(rows))
    if not arguments.quick:
        draw(pictures)


if __name__ == "__main__":
    main()
