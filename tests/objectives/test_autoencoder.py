"""Autoencoders: the adaptive weight's definition, one forward pass for two phases, and reports of collapse."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from headrace import activation, models
from headrace.draws import Draws
from headrace.errors import RecipeError
from headrace.models.patchgan import PatchDiscriminator
from headrace.models.perceptual import VGG, Perceptual
from headrace.objectives import Reconstruction
from headrace.recipe.discrete import FSQ, KL, VQ, Autoencoder, Autoencoding
from headrace.recipe.discrete import PatchDiscriminator as PatchDiscriminatorRecipe
from headrace.recipe.discrete import Perceptual as PerceptualRecipe

BOTTLENECKS = {
    "kl": KL(kind="kl", channels=2),
    "vq": VQ(kind="vq", codes=16, channels=4),
    "gradient": VQ(kind="vq", codes=16, channels=4, update="gradient", cosine=True),
    "fsq": FSQ(kind="fsq", levels=(4, 4)),
}


def autoencoder(bottleneck: str = "vq") -> models.Autoencoder:
    torch.manual_seed(0)
    model = models.build(
        Autoencoder(
            network="autoencoder", resolution=16, image_channels=1, channels=8, bottleneck=BOTTLENECKS[bottleneck]
        )
    )
    with torch.no_grad():  # the last convolution of a block is zero at first
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def images(count: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def draws(step: int = 1, count: int = 4) -> Draws:
    return Draws(0, torch.arange(count) + count * (step - 1), step)


def vqgan(start: int = 0, bottleneck: str = "vq", **settings: float) -> Reconstruction:
    adversary = PatchDiscriminatorRecipe(start=start, channels=8, layers=2, **settings)  # type: ignore[arg-type]
    recipe = Autoencoding(
        family="autoencoder", discriminator=adversary, perceptual=PerceptualRecipe(run="unused", weight=0.5)
    )
    model = autoencoder(bottleneck)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 8, 3), nn.ReLU())
    return Reconstruction(
        recipe,
        model,
        perceptual=Perceptual(network, [network[1], network[3]]),
        discriminator=PatchDiscriminator(adversary, 1),
    )


def by_definition(objective: Reconstruction, image_NCHW: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """The loss of phase one and its weight, by a graph that is kept for two further uses (equation 7)."""
    recipe, model, adversary = objective.recipe, objective.model, objective.recipe.discriminator
    assert adversary is not None
    assert objective.discriminator is not None
    assert objective.perceptual is not None
    through = model.compress(image_NCHW, draws(step))
    painted = model.decoder(through.z_NCHW)
    distance = F.l1_loss(painted, image_NCHW) + 0.5 * objective.perceptual(painted, image_NCHW).mean()
    fooling = -objective.discriminator(painted).mean()
    last = model.decoder.last.weight
    (d,), (f,) = (torch.autograd.grad(loss, last, retain_graph=True) for loss in (distance, fooling))
    weight = (d.norm() / (f.norm() + 1e-6)).clamp(0, adversary.largest)
    penalties = {"kl": recipe.kl / 256, "commitment": recipe.commitment, "codebook": 1.0}
    loss = distance + adversary.weight * weight * fooling
    return loss + sum(penalties[name] * value for name, value in through.penalties.items()), weight


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
@pytest.mark.parametrize("policy", ["none", "full", "sqrt", "selective"])
def test_the_adaptive_weight_and_every_gradient_are_those_of_the_definition(bottleneck: str, policy: str) -> None:
    objective, image_NCHW = vqgan(bottleneck=bottleneck), images()
    parameters = dict(objective.model.named_parameters())
    loss, weight = by_definition(objective, image_NCHW, 1)
    expected = torch.autograd.grad(loss, list(parameters.values()))
    activation.apply(objective.model, policy)  # type: ignore[arg-type]
    assert objective.discriminator is not None
    activation.apply(objective.discriminator, policy)  # type: ignore[arg-type]
    found_loss, figures = objective.reconstruct({"image": image_NCHW}, draws())
    found_loss.backward()
    torch.testing.assert_close(found_loss, loss)
    torch.testing.assert_close(figures["adaptive"], weight)
    for (name, parameter), gradient in zip(parameters.items(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_the_weight_is_clamped() -> None:
    _, figures = vqgan(largest=1e-3).reconstruct({"image": images()}, draws())
    assert figures["adaptive"] == pytest.approx(1e-3)


def test_two_phases_share_one_forward_pass() -> None:
    objective, calls = vqgan(), []
    objective.model.encoder.register_forward_hook(lambda *_: calls.append("encoder"))
    objective.model.decoder.last.register_forward_hook(lambda *_: calls.append("last"))
    batch, parts = {"image": images()}, [draws(), draws()]
    for part in parts:
        objective.reconstruct(batch, part)[0].backward()
    assert calls.count("encoder") == 2
    seen: list[Tensor] = []
    assert objective.discriminator is not None
    objective.discriminator.register_forward_hook(lambda module, inputs, out: seen.append(inputs[0]))
    calls.clear()
    for part in parts:
        objective.discriminate(batch, part)[0].backward()
    assert not calls
    torch.testing.assert_close(seen[1], objective.model.decoder(objective.model.compress(images(), draws()).z_NCHW))
    assert not seen[1].requires_grad


def test_evaluation_has_no_adversary_and_counts_nothing() -> None:
    objective = vqgan()
    assert objective.discriminator is not None
    for network in (objective.model, objective.discriminator):
        network.eval().requires_grad_(False)
    before = {name: value.clone() for name, value in objective.model.state_dict().items()}
    with torch.no_grad():
        loss, figures = objective.reconstruct({"image": images()}, draws())
        assert "fooling" not in figures
        assert loss > figures["pixels"]
        loss, figures = objective.discriminate({"image": images()}, draws())
    assert loss.isfinite()
    assert figures["rounds_won"] == figures["rounds_stuck"] == 0
    objective.model.update()
    assert all(torch.equal(value, before[name]) for name, value in objective.model.state_dict().items())


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_a_non_finite_step_leaves_the_state_alone(bottleneck: str) -> None:
    objective = vqgan(start=9, bottleneck=bottleneck)
    objective.reconstruct({"image": images()}, draws(1))
    objective.model.update()
    before = {name: value.clone() for name, value in objective.model.state_dict().items()}
    assert before["updates"] == 1
    objective.reconstruct({"image": images() * float("nan")}, draws(2))
    objective.model.update()
    assert all(torch.equal(value, before[name]) for name, value in objective.model.state_dict().items())


def test_the_adversary_starts_late() -> None:
    objective, calls = vqgan(start=3), []
    assert objective.discriminator is not None
    objective.discriminator.register_forward_hook(lambda *_: calls.append(1))
    for step in (1, 3):
        _, figures = objective.reconstruct({"image": images()}, draws(step))
        assert "adaptive" not in figures
        assert not calls
    _, figures = objective.reconstruct({"image": images()}, draws(4))
    assert "adaptive" in figures
    assert [phase.first for phase in objective.phases()] == [1, 4]


def test_hinge_loss_and_shares() -> None:
    objective = vqgan()
    objective.reconstruct({"image": images()}, part := draws())
    objective.discriminator = None
    logits = iter([torch.tensor([2.0, -0.5]), torch.tensor([-3.0, 0.25])])

    class Fixed(nn.Module):
        rounds_won = torch.zeros((), dtype=torch.int64)
        rounds_stuck = torch.zeros((), dtype=torch.int64)

        def forward(self, x: Tensor) -> Tensor:
            return next(logits)

    objective.discriminator = Fixed()  # type: ignore[assignment]
    loss, figures = objective.discriminate({"image": images()}, part)
    assert loss.item() == pytest.approx(((0 + 1.5) / 2 + (0 + 1.25) / 2) / 2)
    assert (figures["real"], figures["fake"]) == (0.5, 0.5)


@pytest.mark.parametrize(("gain", "line"), [(1e3, "won outright"), (0.0, "not told real from fake")])
def test_a_lost_game_is_reported(gain: float, line: str) -> None:
    """One discriminator is never wrong, the other always says the same. Both are counted and reported once."""
    objective = vqgan()
    assert objective.discriminator is not None

    class Oracle(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return gain * (x.flatten(1).amax(1) - 0.5)

    oracle = Oracle()
    for name, buffer in objective.discriminator.named_buffers():
        oracle.register_buffer(name, buffer)
    objective.discriminator = oracle  # type: ignore[assignment]
    warn = objective.phases()[1].warn
    assert warn is not None
    said = []
    for step in range(1, 103):
        part = draws(step)
        objective._painted[part] = torch.zeros(4, 1, 16, 16)
        _, figures = objective.discriminate({"image": torch.ones(4, 1, 16, 16)}, part)
        said.append(warn({f"discriminate/{name}": value.item() for name, value in figures.items()}))
    assert [number for number, text in enumerate(said, 1) if text] == [100]
    assert line in str(said[99])
    assert (
        line
        == {"rounds_won": "won outright", "rounds_stuck": "not told real from fake"}[
            max(("rounds_won", "rounds_stuck"), key=lambda name: oracle.get_buffer(name).item())
        ]
    )


def test_a_codebook_that_collapses_is_reported() -> None:
    objective = Reconstruction(
        Autoencoding(family="autoencoder", monitor_every=2), autoencoder(), fixed_NCHW=images(32)
    )
    _, figures = objective.reconstruct({"image": images()}, draws(1))
    assert "fixed_perplexity" not in figures
    _, figures = objective.reconstruct({"image": images()}, draws(2))
    assert figures["fixed_perplexity"].item() >= 1
    warn = objective.phases()[0].warn
    assert warn is not None
    assert warn({"fixed_perplexity": 8.0}) is None
    assert warn({"fixed_perplexity": 4.1}) is None
    assert warn({"pixels": 1.0}) is None
    with torch.no_grad():
        objective.model.discrete.vectors_KC[1:] += 1e3  # type: ignore[union-attr]
    _, figures = objective.reconstruct({"image": images()}, draws(4))
    assert figures["fixed_perplexity"].item() == pytest.approx(1)
    assert "the codebook collapses" in str(warn({"reconstruct/fixed_perplexity": 1.0}))


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_latents_are_scaled_and_come_back(bottleneck: str) -> None:
    objective, model = vqgan(start=9, bottleneck=bottleneck), None
    model = objective.model
    for step in range(1, 40):
        objective.reconstruct({"image": images(16, step)}, draws(step, 16))
        model.update()
    model.eval()
    latent = model.encode(images(64, 99))
    assert latent.shape == (64, model.latent_channels, 4, 4)
    assert latent.mean((0, 2, 3)).abs().max() < 0.15
    torch.testing.assert_close(latent.std((0, 2, 3)), torch.ones(model.latent_channels), rtol=0.1, atol=0)
    torch.testing.assert_close(model.decode(latent), model(images(64, 99)), atol=1e-4, rtol=1e-3)
    if bottleneck == "kl":
        with pytest.raises(ValueError, match="found kl, expected vq or fsq"):
            model.codes(images())
    else:
        codes = model.codes(images())
        assert codes.shape == (4, 4, 4)
        assert torch.equal(model.decode_codes(codes), model(images()))
    with pytest.raises(ValueError, match=r"found \[16, 14\] pixels, expected multiples of 4"):
        model.encode(torch.zeros(1, 1, 16, 14))


@pytest.mark.parametrize("bottleneck", BOTTLENECKS)
def test_training_makes_reconstructions_better(bottleneck: str) -> None:
    objective = Reconstruction(Autoencoding(family="autoencoder", kl=1e-3), autoencoder(bottleneck))
    optimizer = torch.optim.Adam(objective.model.parameters(), 3e-3)
    shapes = torch.stack([torch.full((1, 16, 16), v) for v in (-0.8, -0.2, 0.3, 0.9)])
    losses = []
    for step in range(1, 121):
        loss, figures = objective.reconstruct({"image": shapes}, draws(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        objective.model.update()
        losses.append(figures["pixels"].item())
    assert losses[-1] < 0.3 * losses[0]


def test_lpips_distance_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU())
    a, b = images(2, 1), images(2, 2)
    first, second = (F.normalize(network(x), dim=1, eps=1e-6) for x in (a, b))
    expected = (first - second).square().sum(1).mean((1, 2))
    distance = Perceptual(network, [network[1]])
    torch.testing.assert_close(distance(a, b), expected, atol=1e-4, rtol=1e-3)
    assert distance(a, a).max() == 0
    assert not any(parameter.requires_grad for parameter in distance.parameters())


def test_vgg_from_a_file(tmp_path: Path) -> None:
    network = VGG()
    assert [i for i, layer in enumerate(network.features) if layer in network.layers()] == [3, 8, 15, 22, 29]
    weights = {name: torch.randn_like(value) for name, value in network.state_dict().items()}
    path = tmp_path / "vgg16.safetensors"
    save_file({**weights, "classifier.0.bias": torch.zeros(3)}, path)
    loaded = VGG.load(str(path), "objective.perceptual.vgg")
    assert all(torch.equal(value, weights[name]) for name, value in loaded.state_dict().items())
    assert Perceptual(loaded, loaded.layers())(images(), images(seed=1)).shape == (4,)
    save_file({**weights, "features.0.weight": torch.zeros(64, 1, 3, 3)}, path)
    line = r"objective.perceptual.vgg: found \[64, 1, 3, 3\] at features.0.weight in .*, expected \[64, 3, 3, 3\]"
    with pytest.raises(RecipeError, match=line):
        VGG.load(str(path), "objective.perceptual.vgg")
    path.write_text("none")
    with pytest.raises(RecipeError, match=r"objective.perceptual.vgg: found .*, expected a safetensors file"):
        VGG.load(str(path), "objective.perceptual.vgg")
