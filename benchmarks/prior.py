"""Priors over codes: what caching saves, what a step costs as sequences grow, how far back each network remembers.

    python benchmarks/prior.py [--quick] [--plot docs/prior.png]

All times are CPU seconds of one thread.

1. Drawing a 256-code image, with cached keys and values and without.
2. A training step and one drawn code over the length: a Transformer against an LSTM and a GRU with as many parameters.
3. A symbol, then noise, then a mark after which the network must name the symbol: the share of right answers over the
   distance, after the same number of steps.
4. Training steps of the objectives, against plain PyTorch that computes the same.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from headrace import models, objectives
from headrace.draws import Draws
from headrace.models import Conditioning
from headrace.models.patchgan import PatchDiscriminator
from headrace.models.prior import Prior
from headrace.recipe.discrete import VQ, Autoencoder, Autoencoding, AutoregressivePrior
from headrace.recipe.discrete import PatchDiscriminator as PatchDiscriminatorRecipe
from headrace.recipe.discrete import Prior as PriorRecipe
from headrace.samplers.autoregressive import Choice, sample_codes, sample_window

CORES = ("transformer", "lstm", "gru")
Table = dict[str, dict[int, float]]


def build(core: str, side: int, width: int = 128, layers: int = 4, codes: int = 512) -> Prior:
    """A prior. Recurrent ones get the width that brings their number of parameters nearest to the Transformer's."""
    recipe = PriorRecipe(network="prior", core="transformer", codes=codes, side=side, width=width, layers=layers)
    if core != "transformer":
        size = parameters(models.build(recipe).core)
        widths = range(32, 4 * width, 8)
        recipe = min(
            (recipe.model_copy(update={"core": core, "width": w}) for w in widths),
            key=lambda r: abs(parameters(models.build(r).core) - size),
        )
    torch.manual_seed(0)
    return models.build(recipe)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def seconds(work: Callable[[], object], runs: int) -> float:
    """CPU seconds of the best of `runs`, after one warm-up run."""
    best = float("inf")
    for run in range(runs + 1):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start) if run else best
    return best


def sampling(sizes: tuple[tuple[int, int, int], ...], runs: int) -> None:
    """Draw a 256-code image, with cached keys and values and by recomputing the whole sequence for each code."""
    print("\n| width, layers, images at once | cached, s | not cached, s | ratio |\n| --- | --- | --- | --- |")
    for width, layers, count in sizes:
        model = build("transformer", 16, width, layers).eval()
        conditioning, draws = Conditioning(torch.full((count,), -1)), Draws(0, torch.arange(count))
        remembering = functools.partial(sample_codes, model, conditioning, draws, Choice())
        forgetting = functools.partial(sample_window, model, conditioning, draws, Choice(), height=16, width=16)
        assert torch.equal(remembering(), forgetting()), "both draw the same codes"
        fast, slow = seconds(remembering, runs), seconds(forgetting, 1)
        print(f"| {width}, {layers}, {count} | {fast:.3f} | {slow:.3f} | {slow / fast:.1f} |", flush=True)


def step_costs(sides: tuple[int, ...], runs: int) -> tuple[Table, Table]:
    """CPU milliseconds over the number of codes: a training step with 8 sequences, and drawing one code."""
    training: Table = {core: {} for core in CORES}
    drawing: Table = {core: {} for core in CORES}
    for side in sides:
        codes_NL = torch.randint(0, 512, (8, side**2))
        for core in CORES:
            model = build(core, side)

            def step(model: Prior = model, codes_NL: Tensor = codes_NL) -> None:
                logits = model(codes_NL[:, :-1], Conditioning(torch.full((8,), -1)))
                F.cross_entropy(logits.transpose(1, 2), codes_NL).backward()
                model.zero_grad()

            training[core][side**2] = 1e3 * seconds(step, runs)
            one = Draws(0, torch.arange(1))
            whole = seconds(
                lambda model=model, one=one: sample_codes(model, Conditioning(torch.tensor([-1])), one, Choice()), 1
            )
            drawing[core][side**2] = 1e3 * whole / side**2
    return training, drawing


def recall(core: str, distance: int, steps: int) -> float:
    """Share of right answers to “which symbol came `distance` places ago?” after `steps` steps of 64 sequences.

    A sequence is a symbol (of 16), noise from 16 other symbols, a mark, and the symbol again.
    """
    side = int((distance + 2) ** 0.5) + 1
    model = build(core, side, width=64, layers=2, codes=33)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(1)
    right = []
    for step in range(steps):
        symbol_N1 = torch.randint(0, 16, (64, 1), generator=generator)
        noise_NL = torch.randint(16, 32, (64, distance - 1), generator=generator)
        before_NL = torch.cat([symbol_N1, noise_NL, torch.full((64, 1), 32)], 1)
        logits_NK = model(before_NL, Conditioning(torch.full((64,), -1)))[:, -1]
        loss = F.cross_entropy(logits_NK, symbol_N1[:, 0])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step >= steps - 20:
            right.append((logits_NK.argmax(1) == symbol_N1[:, 0]).float().mean().item())
    return sum(right) / len(right)


def objectives_against_plain(runs: int) -> None:
    """Time forward and backward passes of the objectives, and of the same losses written out in plain PyTorch."""
    image_NCHW = torch.rand(16, 1, 28, 28) * 2 - 1
    draws = Draws(0, torch.arange(16), 1)
    print("\n| step | headrace, s | plain PyTorch, s | ratio |\n| --- | --- | --- | --- |")
    for name, ours, theirs in (
        ("VQ-VAE", *_vqvae(image_NCHW, draws)),
        ("VQGAN, both phases", *_vqgan(image_NCHW, draws)),
        ("Transformer prior", *_prior(image_NCHW, draws)),
    ):
        mine, other = seconds(ours, runs), seconds(theirs, runs)
        print(f"| {name} | {mine:.3f} | {other:.3f} | {mine / other:.2f} |", flush=True)


def _autoencoder() -> models.Autoencoder:
    torch.manual_seed(0)
    return models.build(
        Autoencoder(network="autoencoder", resolution=28, image_channels=1, bottleneck=VQ(kind="vq"), channels=48)
    )


def _plain_loss(model: models.Autoencoder, image_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 3 of van den Oord et al. (2017), codebook updated by moving averages: (loss, reconstruction)."""
    h = model.encoder(image_NCHW)
    book: Tensor = model.bottleneck.vectors_KC  # type: ignore[union-attr,assignment]
    flat = h.permute(0, 2, 3, 1).reshape(-1, h.shape[1])
    codes = torch.cdist(flat, book).argmin(1)
    quantised = book[codes].view(h.shape[0], *h.shape[2:], h.shape[1]).permute(0, 3, 1, 2)
    with torch.no_grad():
        hot = F.one_hot(codes, len(book)).float()
        hot.sum(0), hot.T @ flat
    rebuilt = model.decoder(h + (quantised - h).detach())
    return F.l1_loss(rebuilt, image_NCHW) + 0.25 * F.mse_loss(h, quantised.detach()), rebuilt


def _vqvae(image_NCHW: Tensor, draws: Draws) -> tuple[Callable[[], None], Callable[[], None]]:
    model, plain = _autoencoder(), _autoencoder()
    objective = objectives.Reconstruction(Autoencoding(family="autoencoder"), model)

    def ours() -> None:
        objective.reconstruct({"image": image_NCHW}, draws)[0].backward()
        model.update()

    return ours, lambda: _plain_loss(plain, image_NCHW)[0].backward()


def _vqgan(image_NCHW: Tensor, draws: Draws) -> tuple[Callable[[], None], Callable[[], None]]:
    recipe = PatchDiscriminatorRecipe(start=0)
    model, plain, mine, theirs = _autoencoder(), _autoencoder(), *(PatchDiscriminator(recipe, 1) for _ in range(2))
    whole = Autoencoding(family="autoencoder", discriminator=recipe)
    objective = objectives.Reconstruction(whole, model, discriminator=mine)

    def ours() -> None:
        mine.requires_grad_(False)
        objective.reconstruct({"image": image_NCHW}, draws)[0].backward()
        model.update()
        mine.requires_grad_(True)
        objective.discriminate({"image": image_NCHW}, draws)[0].backward()

    def peer() -> None:
        # As public implementations do it: keep the graph, and run the autoencoder in both phases.
        theirs.requires_grad_(False)
        loss, rebuilt = _plain_loss(plain, image_NCHW)
        fooling = -theirs(rebuilt).mean()
        last = plain.decoder.last.weight
        (d,), (f,) = (torch.autograd.grad(each, last, retain_graph=True) for each in (loss, fooling))
        (loss + 0.8 * (d.norm() / (f.norm() + 1e-6)).clamp(0, 1e4).detach() * fooling).backward()
        theirs.requires_grad_(True)
        with torch.no_grad():
            rebuilt = plain(image_NCHW)
        (F.relu(1 - theirs(image_NCHW)).mean() + F.relu(1 + theirs(rebuilt)).mean()).backward()

    return ours, peer


class PlainPrior(nn.Module):
    """torch.nn's own Transformer encoder with a causal mask."""

    def __init__(self, side: int, width: int = 128, layers: int = 4) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(512, width), nn.Linear(width, 512)
        self.positions = nn.Parameter(torch.zeros(side**2 + 1, width))
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(width), enable_nested_tensor=False)

    def forward(self, codes_NL: Tensor) -> Tensor:
        x = torch.cat(
            [torch.zeros_like(self.positions[None, :1]).expand(len(codes_NL), -1, -1), self.embed(codes_NL)], 1
        )
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.head(self.layers(x + self.positions[: x.shape[1]], mask, is_causal=True))


def _prior(image_NCHW: Tensor, draws: Draws) -> tuple[Callable[[], None], Callable[[], None]]:
    autoencoder, model, plain = _autoencoder().eval(), build("transformer", 7), PlainPrior(7)
    objective = objectives.CodeLikelihood(AutoregressivePrior(family="prior", autoencoder=""), model, autoencoder)

    def peer() -> None:
        with torch.no_grad():
            codes_NL = autoencoder.codes(image_NCHW).flatten(1)
        F.cross_entropy(plain(codes_NL[:, :-1]).transpose(1, 2), codes_NL).backward()

    return lambda: objective.loss({"image": image_NCHW}, draws)[0].backward(), peer


def show(title: str, tables: Table, form: str) -> None:
    """Print a table: a row for each network, a column for each length or distance."""
    columns = list(next(iter(tables.values())))
    print(f"\n| {title} | " + " | ".join(map(str, columns)) + " |\n" + "| --- " * (len(columns) + 1) + "|")
    for core, values in tables.items():
        print(f"| {core} | " + " | ".join(format(values[column], form) for column in columns) + " |", flush=True)


def plot(path: Path, panels: dict[str, tuple[Table, str]]) -> None:
    """Save a plot with a panel for each table."""
    figure = Figure(figsize=(4.2 * len(panels), 3.4), layout="constrained")
    for axes, (title, (table, along)) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for core, values in table.items():
            axes.plot(list(values), list(values.values()), marker="o", label=core)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(along)
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
    figure.axes[0].legend()
    figure.axes[-1].set_ylim(0, 1.03)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps and short sequences, to check that it works")
    parser.add_argument("--plot", type=Path, help="the picture to plot the tables into")
    arguments = parser.parse_args()
    quick = arguments.quick
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sampling(((128, 4, 1),) if quick else ((128, 4, 1), (128, 4, 4), (256, 8, 1)), 1 if quick else 3)
    training, drawing = step_costs((4, 8) if quick else (4, 8, 16, 24), 1 if quick else 3)
    sizes = ", ".join(f"{core} {parameters(build(core, 8).core):,}" for core in CORES)
    print(f"\nparameters without embeddings: {sizes}")
    show("training step of 8 sequences, ms; codes", training, ".1f")
    show("one drawn code, ms; codes", drawing, ".2f")
    distances, steps = ((4, 16), 40) if quick else ((4, 16, 64, 128), 400)
    remembered = {core: {distance: recall(core, distance, steps) for distance in distances} for core in CORES}
    show(f"right answers after {steps} steps; distance", remembered, ".2f")
    objectives_against_plain(1 if quick else 7)
    if arguments.plot:
        panels = {
            "training step of 8 sequences, ms": (training, "codes"),
            "one drawn code, ms": (drawing, "codes"),
            "share recalled": (remembered, "distance"),
        }
        plot(arguments.plot, panels)


if __name__ == "__main__":
    main()
