"""Generators and discriminators: shapes, conditioning, spectral normalisation."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from headrace.models import Caption
from headrace.models.conditions import Conditioning
from headrace.models.gan import build_pair, normalise_spectra, step_spectra
from headrace.recipe.gan import Gan

TEXT = {"vocabulary": 300, "length": 6, "width": 16, "layers": 1, "heads": 2}


def recipe(**changes: Any) -> Gan:
    values = {"network": "gan", "resolution": 16, "latent": 8, "channels": 8, "multipliers": [1, 2], "text": TEXT}
    return Gan.model_validate({**values, **changes})


def condition_of(kind: str, n: int) -> Conditioning:
    if kind == "label":
        return Conditioning(label_N=torch.arange(n) % 10)
    if kind == "caption":
        tokens_NL = torch.randint(2, 300, (n, 6))
        return Conditioning(caption=Caption(tokens_NL, torch.ones(n, 6, dtype=torch.bool)))
    return Conditioning()


@pytest.mark.parametrize("backbone", ["dcgan", "residual"])
@pytest.mark.parametrize("kind", ["none", "label", "caption"])
@pytest.mark.parametrize("resolution", [16, 28])
def test_shapes_and_that_each_parameter_and_sample_counts(backbone: str, kind: str, resolution: int) -> None:
    torch.manual_seed(0)
    patch = 2 if backbone == "residual" and resolution == 28 else 1
    pair = build_pair(recipe(backbone=backbone, condition=kind, resolution=resolution, patch=patch))
    for parameter in (*pair.generator.parameters(), *pair.discriminator.parameters()):
        torch.nn.init.normal_(parameter, std=0.2)
    condition = condition_of(kind, 3)
    image_NCHW = pair.generator(torch.randn(3, 8), condition)
    assert image_NCHW.shape == (3, 3, resolution, resolution)
    out_N = pair.discriminator(image_NCHW, condition)
    assert out_N.shape == (3,)
    out_N.sum().backward()
    for network in pair:
        assert all(p.grad is not None and p.grad.any() for p in network.parameters())


@pytest.mark.parametrize("backbone", ["dcgan", "residual"])
def test_samples_of_a_batch_are_independent(backbone: str) -> None:
    torch.manual_seed(0)
    norm = "group" if backbone == "dcgan" else "none"
    pair = build_pair(recipe(backbone=backbone, norm=norm, condition="label"))
    z_NZ, condition = torch.randn(4, 8), condition_of("label", 4)
    whole = pair.discriminator(pair.generator(z_NZ, condition), condition)
    for i in range(4):
        one = Conditioning(label_N=condition.label_N[i : i + 1])  # type: ignore[index]
        alone = pair.discriminator(pair.generator(z_NZ[i : i + 1], one), one)
        torch.testing.assert_close(alone, whole[i : i + 1])


@pytest.mark.parametrize("kind", ["label", "caption"])
def test_a_condition_changes_image_and_judgement(kind: str) -> None:
    torch.manual_seed(0)
    pair = build_pair(recipe(condition=kind))
    z_NZ = torch.randn(1, 8).expand(2, -1)
    image_NCHW = pair.generator(z_NZ, condition_of(kind, 2))
    assert not torch.allclose(image_NCHW[0], image_NCHW[1])
    same_NCHW = image_NCHW[:1].expand(2, -1, -1, -1)
    first, second = pair.discriminator(same_NCHW, condition_of(kind, 2)).tolist()
    assert first != second


def test_the_projection_is_that_of_its_equation() -> None:
    """D(x, y) − D(x, y′) = ⟨Vφ(x), e(y) − e(y′)⟩ / √E."""
    torch.manual_seed(0)
    head = build_pair(recipe(condition="label")).discriminator.head
    features_NF = torch.randn(2, head.out.in_features)
    zero, one = (Conditioning(label_N=torch.tensor([label, label])) for label in (0, 1))
    expected = (head.project(features_NF) * (head.embedding(zero) - head.embedding(one))).sum(1) / 8
    torch.testing.assert_close(head(features_NF, zero) - head(features_NF, one), expected)


def test_residual_blocks_start_silent() -> None:
    pair = build_pair(recipe(backbone="residual"))
    block = pair.generator.layers[0]
    x_NCHW = torch.randn(2, 16, 8, 8)
    assert torch.equal(block(x_NCHW), x_NCHW)


@pytest.mark.parametrize("backbone", ["dcgan", "residual"])
def test_activations_start_at_the_same_size_at_every_level(backbone: str) -> None:
    torch.manual_seed(0)
    pair = build_pair(recipe(backbone=backbone, resolution=32, multipliers=[1, 2, 4], channels=16, blocks=1))
    image_NCHW = pair.generator(torch.randn(64, 8), Conditioning())
    assert 0.02 < image_NCHW.std() < 3
    assert 1e-3 < pair.discriminator(torch.randn(64, 3, 32, 32), Conditioning()).std() < 3


def singular(weight: Tensor) -> float:
    return float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2))


@pytest.mark.parametrize(("backbone", "count"), [("dcgan", 4), ("residual", 11)])
def test_spectral_norms_become_one(backbone: str, count: int) -> None:
    torch.manual_seed(0)
    discriminator = build_pair(recipe(condition="label", backbone=backbone)).discriminator
    embedding = discriminator.head.embedding.label.weight.clone()
    normalise_spectra(discriminator)
    for _ in range(60):
        step_spectra(discriminator)
    layers = [m for m in discriminator.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    assert len(layers) == count
    for layer in layers:
        assert singular(layer.weight) == pytest.approx(1, abs=0.01)
    assert torch.equal(discriminator.head.embedding.label.weight, embedding)


def test_only_a_round_moves_the_estimate_of_a_spectral_norm() -> None:
    """Forward passes change nothing, even in training mode, so a recomputed block is the same block."""
    torch.manual_seed(0)
    discriminator = build_pair(recipe()).discriminator
    normalise_spectra(discriminator)
    before = copy.deepcopy(discriminator.state_dict())
    image_NCHW = torch.randn(2, 3, 16, 16)
    first = discriminator.train()(image_NCHW, Conditioning())
    assert torch.equal(discriminator(image_NCHW, Conditioning()), first)
    assert all(torch.equal(value, before[name]) for name, value in discriminator.state_dict().items())
    step_spectra(discriminator)
    changed = [n for n, value in discriminator.state_dict().items() if not torch.equal(value, before[n])]
    assert changed
    assert all(name.endswith(("_u", "_v")) for name in changed)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"resolution": 18}, "a resolution that is a multiple of 4 and at least 8"),
        ({"resolution": 8, "multipliers": [1, 1, 1]}, "a resolution that is a multiple of 8 and at least 16"),
        ({"backbone": "residual", "norm": "batch"}, "norm: none with backbone: residual, not batch"),
        ({"patch": 2}, "patch: 1 with backbone: dcgan, not 2"),
        ({"backbone": "residual", "patch": 3}, "a resolution that is a multiple of 6 and at least 12"),
        ({"blocks": 2}, "blocks: 1 with backbone: dcgan, not 2"),
    ],
)
def test_networks_that_do_not_come_out_even(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValidationError, match=line):
        recipe(**changes)
