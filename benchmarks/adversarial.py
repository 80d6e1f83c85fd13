"""One step of each adversarial objective, against a plain PyTorch loop over the same networks.

The loop is what you would write by hand: the generator's and the discriminator's losses and AdamW, without averaged
weights, figures or metrics. Both sides do the same mathematics on equal networks and batches. Time is CPU time of one
thread. Rounds of the two sides are interleaved and the best round of each counts, so that a busy machine matters
little. Run `python benchmarks/adversarial.py`; it prints a table. `--quick` only checks that it works.
"""

import argparse
import copy
import math
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from headrace.models.conditions import Conditioning
from headrace.models.gan import build_pair
from headrace.objectives import Adversarial
from headrace.ranks.workers import Workers
from headrace.recipe.gan import Adversarial as AdversarialRecipe
from headrace.recipe.gan import Gan
from headrace.recipe.training import Training
from headrace.training.trainer import Trainer

LATENT, RATE, BETAS = 64, 2e-4, (0.5, 0.999)
IMAGES = {"network": "gan", "resolution": 28, "image_channels": 1, "latent": LATENT, "multipliers": [1, 2]}
DCGAN = {**IMAGES, "channels": 48, "norm": "group"}
RESIDUAL = {**IMAGES, "backbone": "residual", "patch": 2, "channels": 32}
GAMES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "non-saturating": (DCGAN, {}),
    "minimax": (DCGAN, {"loss": "minimax"}),
    "WGAN, clipping": (DCGAN, {"loss": "wasserstein", "regulariser": "clip", "rounds": 5}),
    "WGAN, gradient penalty": (DCGAN, {"loss": "wasserstein", "regulariser": "gradient_penalty", "rounds": 5}),
    "WGAN, spectral norm": ({**DCGAN, "norm": "none"}, {"loss": "wasserstein", "regulariser": "spectral", "rounds": 5}),
    "R3GAN": (RESIDUAL, {"loss": "relativistic", "regulariser": "r1_r2"}),
}
Step = Callable[[Tensor], object]


class Plain:
    """The hand-written loop."""

    def __init__(self, recipe: AdversarialRecipe, generator: nn.Module, discriminator: nn.Module) -> None:
        self.recipe, self.generator, self.discriminator = recipe, generator, discriminator
        if recipe.regulariser == "spectral":
            for layer in [m for m in discriminator.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]:
                nn.utils.parametrizations.spectral_norm(layer)
        self.optimizers = [
            torch.optim.AdamW(net.parameters(), lr=RATE, betas=BETAS, weight_decay=0.0, fused=True)
            for net in (generator, discriminator)
        ]
        self.steps = 0

    def step(self, real: Tensor) -> None:
        self.steps += 1
        self.discriminator.requires_grad_(True)
        self.play(self.discriminator_loss(real), 1)
        if self.recipe.regulariser == "clip":
            with torch.no_grad():
                for parameter in self.discriminator.parameters():
                    parameter.clamp_(-self.recipe.clip, self.recipe.clip)
        if self.steps % self.recipe.rounds == 0:
            self.discriminator.requires_grad_(False)
            self.play(self.generator_loss(real), 0)

    def play(self, loss: Tensor, network: int) -> None:
        self.optimizers[network].zero_grad()
        loss.backward()
        self.optimizers[network].step()

    def fake(self, real: Tensor) -> Tensor:
        return self.generator(torch.randn(len(real), LATENT), Conditioning())

    def discriminator_loss(self, real: Tensor) -> Tensor:
        with torch.no_grad():
            fake = self.fake(real)
        penalised = self.recipe.regulariser == "r1_r2"
        real, fake = real.detach().requires_grad_(penalised), fake.requires_grad_(penalised)
        d_real, d_fake = self.discriminator(real, Conditioning()), self.discriminator(fake, Conditioning())
        if self.recipe.loss == "relativistic":
            loss = F.softplus(d_fake - d_real).mean()
        elif self.recipe.loss == "wasserstein":
            loss = (d_fake - d_real).mean()
        else:
            loss = (F.softplus(-d_real) + F.softplus(d_fake)).mean()
        if penalised:
            for output, image in ((d_real, real), (d_fake, fake)):
                (gradient,) = torch.autograd.grad(output.sum(), image, create_graph=True)
                loss = loss + self.recipe.gamma / 2 * gradient.square().sum((1, 2, 3)).mean()
        if self.recipe.regulariser == "gradient_penalty":
            share = torch.rand(len(real), 1, 1, 1)
            between = (share * real + (1 - share) * fake).requires_grad_()
            (gradient,) = torch.autograd.grad(
                self.discriminator(between, Conditioning()).sum(), between, create_graph=True
            )
            loss = loss + self.recipe.penalty * (gradient.flatten(1).norm(dim=1) - 1).square().mean()
        return loss

    def generator_loss(self, real: Tensor) -> Tensor:
        d_fake = self.discriminator(self.fake(real), Conditioning())
        if self.recipe.loss == "relativistic":
            return F.softplus(self.discriminator(real, Conditioning()) - d_fake).mean()
        if self.recipe.loss == "wasserstein":
            return -d_fake.mean()
        return -F.softplus(d_fake).mean() if self.recipe.loss == "minimax" else F.softplus(-d_fake).mean()


def both(model: dict[str, Any], objective: dict[str, Any], batch: int) -> tuple[Step, Step]:
    """A step of the common trainer and a step of the hand-written loop, over equal networks."""
    torch.manual_seed(0)
    pair = build_pair(Gan.model_validate(model))
    recipe = AdversarialRecipe.model_validate({"family": "gan", **objective})
    plain = Plain(recipe, *copy.deepcopy(pair))
    training = Training(
        run="",
        steps=10**6,
        warmup=0,
        learning_rate=RATE,
        beta1=BETAS[0],
        beta2=BETAS[1],
        weight_decay=0,
        clip=math.inf,
        precision="fp32",
    )
    trainer = Trainer(Adversarial(recipe, *pair), training, batch, Workers(0, 1, torch.device("cpu")))
    return lambda real: trainer.step({"image": real}).read(), plain.step


def seconds(step: Step, real: Tensor, count: int) -> float:
    """CPU seconds of a step."""
    start = time.process_time()
    for _ in range(count):
        step(real)
    return (time.process_time() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of ten steps each; the best counts")
    parser.add_argument("--quick", action="store_true", help="two rounds")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    real = torch.rand(arguments.batch, 1, 28, 28) * 2 - 1
    print(f"28×28×1, batch {arguments.batch}, one thread, torch {torch.__version__}\n")
    print("| objective | headrace, ms a step | hand-written, ms | ratio |\n| --- | --- | --- | --- |")
    for name, (model, objective) in GAMES.items():
        ours, theirs = both(model, objective, arguments.batch)
        for step in (ours, theirs):
            seconds(step, real, 5)
        rounds = range(2 if arguments.quick else arguments.rounds)
        taken = [(seconds(ours, real, 10), seconds(theirs, real, 10)) for _ in rounds]
        mine, other = (min(column) for column in zip(*taken, strict=True))
        print(f"| {name} | {1000 * mine:.1f} | {1000 * other:.1f} | {mine / other:.2f} |", flush=True)


if __name__ == "__main__":
    main()
