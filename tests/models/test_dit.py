"""The Transformer denoiser: its shapes, its zero output before training, and that every part of it matters."""

import pytest
import torch
from torch import Tensor

from headrace import models
from headrace.models import Caption
from headrace.recipe.model import DiT
from headrace.recipe.text import Text

RECIPE = DiT(
    network="dit", image_channels=4, patch=2, width=32, layers=2, heads=2, text=Text(vocabulary=300, length=6, width=16)
)


def build(recipe: DiT = RECIPE) -> models.DiT:
    torch.manual_seed(0)
    model = models.build(recipe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def inputs(height: int = 8, width: int = 8) -> tuple[Tensor, Tensor, Caption]:
    generator = torch.Generator().manual_seed(1)
    tokens_NL = torch.randint(2, 300, (2, 6), generator=generator)
    caption = Caption(tokens_NL, torch.arange(6).repeat(2, 1) < 4)
    return torch.randn(2, 4, height, width, generator=generator), torch.tensor([10.0, 900.0]), caption


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 12)])
def test_output_has_the_shape_of_the_image_and_starts_at_zero(height: int, width: int) -> None:
    arguments = inputs(height, width)
    assert torch.equal(models.build(RECIPE)(*arguments), torch.zeros_like(arguments[0]))
    assert build()(*arguments).shape == arguments[0].shape


def test_every_parameter_matters() -> None:
    model = build()
    model(*inputs()).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_moving_the_patches_moves_more_than_the_output() -> None:
    # Without positions a Transformer commutes with any reordering of its patches.
    model = build()
    x_NCHW, c_noise_N, caption = inputs()
    moved = model(x_NCHW.roll(4, -1), c_noise_N, caption)
    assert not torch.allclose(moved, model(x_NCHW, c_noise_N, caption).roll(4, -1), atol=1e-3)


def test_a_caption_encoded_before_gives_the_same_and_padding_does_not_matter() -> None:
    model = build()
    x_NCHW, c_noise_N, caption = inputs()
    base = model(x_NCHW, c_noise_N, caption)
    assert torch.equal(model(x_NCHW, c_noise_N, model.encode(caption)), base)
    padded = Caption(caption.tokens_NL.masked_fill(~caption.mask_NL, 9), caption.mask_NL)
    torch.testing.assert_close(model(x_NCHW, c_noise_N, padded), base)


def test_it_is_one_graph_and_runs_in_bfloat16() -> None:
    model, arguments = build(), inputs()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    expected = model(*arguments)
    torch.testing.assert_close(compiled(*arguments), expected)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(*arguments).float()
    assert (rounded - expected).norm() < 0.05 * expected.norm()


def test_an_image_that_patches_do_not_divide_is_refused() -> None:
    arguments = inputs(8, 7)
    with pytest.raises(ValueError, match=r"found \[8, 7\] pixels, expected multiples of 2"):
        build()(*arguments)
