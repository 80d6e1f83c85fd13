"""Stacked Fashion-MNIST: how many of 1,000 modes does a GAN find, and how evenly?

The three channels of an image are three images drawn at random, so an image shows one of 10³ combinations of labels. A
classifier (runs/fashion-judge) reads the labels of 26,000 samples. This follows PacGAN (Lin et al. 2018, section 4.2),
whose table gives DCGAN 99 modes of stacked MNIST, and PacDCGAN all 1,000. Run `headrace build recipes/fashion.yaml
split=train` and `headrace train recipes/fashion-judge.yaml`, then `python benchmarks/stacked.py`. It prints a table and
writes a picture, docs/stacked.png. The default size is for 2 CPU cores, `--full` is for a GPU; `--quick` only checks
that it works.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from headrace.draws import Draws
from headrace.evaluation.features import ClassifierExtractor, extract, open_classifier
from headrace.evaluation.manifolds import Modes, modes
from headrace.loading import ShardLoader
from headrace.models.conditions import Conditioning
from headrace.models.gan import build_pair
from headrace.models.pixels import from_uint8, to_uint8
from headrace.objectives import Adversarial
from headrace.progress import progress
from headrace.ranks.workers import Workers
from headrace.recipe.gan import Adversarial as AdversarialRecipe
from headrace.recipe.gan import Gan
from headrace.recipe.training import Training
from headrace.sampling.grid import write_grid
from headrace.training.trainer import Trainer

DATA, CLASSIFIER, PICTURE = "data/fashion", "runs/fashion-judge", Path("docs/stacked.png")
CLASSES, SHOWN = 10, 8
DCGAN = {"backbone": "dcgan", "multipliers": [1, 2]}
RESIDUAL = {"backbone": "residual", "patch": 2, "multipliers": [1, 2]}


class Kind(NamedTuple):
    """A kind of GAN, with the settings that its authors train it with."""

    model: dict[str, Any]
    objective: dict[str, Any]
    training: dict[str, Any]


KINDS = {
    "DCGAN": Kind({**DCGAN, "norm": "batch"}, {}, {"learning_rate": 2e-4, "beta1": 0.5, "beta2": 0.999}),
    "WGAN, gradient penalty": Kind(
        {**DCGAN, "norm": "group"},
        {"loss": "wasserstein", "regulariser": "gradient_penalty", "rounds": 3},
        {"learning_rate": 5e-4, "beta1": 0.0, "beta2": 0.9},
    ),
    "R3GAN": Kind(
        RESIDUAL,
        {"loss": "relativistic", "regulariser": "r1_r2", "gamma": 2.0},
        {"learning_rate": 5e-4, "beta1": 0.0, "beta2": 0.95},
    ),
}


class Size(NamedTuple):
    """How much to train and to draw."""

    channels: int
    batch: int
    steps: int
    samples: int


SIZES = {"default": Size(32, 64, 2_000, 26_000), "full": Size(64, 256, 25_000, 26_000), "quick": Size(8, 16, 20, 2_000)}


def pictures(path: str) -> Tensor:
    """The 60,000 training images, uint8 [N, 28, 28]."""
    loader = ShardLoader(
        path,
        where={"split": "train"},
        columns=["image"],
        decode={"image": "gray"},
        captions="one_per_image",
        image_key="image_id",
        batch_size=1000,
        shuffle=False,
    )
    return torch.cat([batch["image"] for batch in loader]).squeeze(1)


def stacked(images_NHW: Tensor, draws: Draws) -> Tensor:
    """Put three random images into the channels of each sample of `draws`: uint8 [N, 3, H, W]."""
    chosen_N3 = (draws.uniform("image", 3).double() * len(images_NHW)).long()
    return images_NHW[chosen_N3.cpu()]


def train(kind: Kind, size: Size, images_NHW: Tensor, device: torch.device, advance: Any) -> Tensor:
    """Train a GAN and draw samples from it: uint8 [N, 3, H, W]."""
    torch.manual_seed(0)
    recipe = Gan.model_validate({"network": "gan", "resolution": 28, "channels": size.channels, **kind.model})
    pair = build_pair(recipe)
    objective = Adversarial(
        AdversarialRecipe.model_validate({"family": "gan", **kind.objective}), *(net.to(device) for net in pair)
    )
    training = Training(
        run="", steps=size.steps, warmup=0, weight_decay=0, clip=math.inf, ema=0.998, precision="bf16", **kind.training
    )
    trainer = Trainer(objective, training, size.batch, Workers(0, 1, device))
    for step in range(size.steps):
        draws = Draws(1, torch.arange(step * size.batch, (step + 1) * size.batch))
        trainer.step({"image": from_uint8(stacked(images_NHW, draws).to(device))})
        advance(1)
    averages = trainer.networks["generator"].ema.averages
    pair.generator.load_state_dict({**pair.generator.state_dict(), **averages})
    return sample(pair.generator.eval(), recipe.latent, size.samples, device)


@torch.no_grad()
def sample(generator: torch.nn.Module, latent: int, count: int, device: torch.device) -> Tensor:
    """`count` images, uint8 [count, 3, H, W]."""
    parts = []
    for numbers in torch.arange(count, device=device).split(500):
        x_NCHW = generator(Draws(2, numbers).normal("start", latent), Conditioning())
        parts.append(to_uint8(x_NCHW))
    return torch.cat(parts)


def read(extractor: ClassifierExtractor, images_N3HW: Tensor) -> Modes:
    """The modes among stacked images, from the classifier's label for each channel."""
    features = extract(extractor, images_N3HW.flatten(0, 1)[:, None], 500)
    assert features.labels is not None
    return modes(features.labels.unflatten(0, (-1, 3)), CLASSES)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="for a GPU: 64 channels, 25,000 steps of 256")
    parser.add_argument("--quick", action="store_true", help="20 steps, no picture")
    parser.add_argument("--steps", type=int, help="rounds of the discriminator (default: that of the size)")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS), help="kinds of GAN")
    arguments = parser.parse_args()
    size = SIZES["full" if arguments.full else "quick" if arguments.quick else "default"]
    size = size if arguments.steps is None else size._replace(steps=arguments.steps)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    extractor = open_classifier(CLASSIFIER, "classifier", device)
    images_NHW = pictures(DATA)
    rows = {"data": stacked(images_NHW, Draws(3, torch.arange(size.samples)))}
    print(
        f"{size.steps:,} rounds of {size.batch}, {size.channels} channels, {size.samples:,} samples; {extractor.name}\n"
    )
    print("| | modes of 1,000 | KL to the uniform distribution, nats | wall s |\n| --- | --- | --- | --- |")
    found = read(extractor, rows["data"])
    print(f"| data | {found.drawn:,} | {found.kl:.3f} | |", flush=True)
    for name in arguments.kinds:
        start = time.perf_counter()
        with progress(name, size.steps) as bar:
            rows[name] = train(KINDS[name], size, images_NHW, device, bar.advance)
        found = read(extractor, rows[name])
        print(f"| {name} | {found.drawn:,} | {found.kl:.3f} | {time.perf_counter() - start:.0f} |", flush=True)
    if not arguments.quick:
        write_grid(PICTURE, list(rows), torch.stack([images[:SHOWN] for images in rows.values()]))


if __name__ == "__main__":
    main()
