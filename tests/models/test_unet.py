"""The U-Net: its shapes, the effect of captions, and that it can be compiled."""

import math

import pytest
import torch
from torch import Tensor

from headrace import models
from headrace.models.attention import attend
from headrace.models.blocks import Canvas
from headrace.models.text import Caption
from headrace.recipe.model import UNet
from headrace.recipe.text import Text

TEXT = Text(vocabulary=300, length=6, width=16, layers=1, heads=2)
SMALL = UNet(resolution=16, patch=2, channels=16, multipliers=(1, 2), blocks=1, attention=(1,), heads=2, text=TEXT)


def build(recipe: UNet = SMALL, seed: int = 0) -> models.TextToImage:
    """A network whose zero-initialised branches have weights, as after training."""
    torch.manual_seed(seed)
    model = models.build(recipe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def inputs(count: int = 2, size: int = 16) -> tuple[Tensor, Tensor, Caption]:
    generator = torch.Generator().manual_seed(1)
    x_NCHW = torch.randn(count, 3, size, size, generator=generator)
    tokens_NL = torch.randint(2, 300, (count, 6), generator=generator)
    tokens_NL[:, 0] = 1
    mask_NL = torch.arange(6).repeat(count, 1) < 4
    return x_NCHW, torch.linspace(10, 900, count), Caption(tokens_NL, mask_NL)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"patch": 1, "resolution": 8},
        {"patch": 4},
        {"multipliers": (1, 2, 3), "attention": (0, 2), "blocks": 2},
        {"multipliers": (1,), "attention": (), "channels": 24},
        {"dropout": 0.5},
    ],
)
def test_output_has_the_shape_of_the_image_and_starts_at_zero(change: dict[str, object]) -> None:
    recipe = UNet.model_validate(SMALL.model_dump() | change)
    x_NCHW, c_noise_N, caption = inputs(size=recipe.resolution)
    assert torch.equal(models.build(recipe)(x_NCHW, c_noise_N, caption), torch.zeros_like(x_NCHW))
    assert build(recipe)(x_NCHW, c_noise_N, caption).std() > 0
    wide = build(recipe)(torch.cat([x_NCHW, x_NCHW], 3), c_noise_N, caption)
    assert wide.shape[-1] == 2 * x_NCHW.shape[-1]


def test_an_image_of_no_multiple_of_the_stride_is_refused() -> None:
    x_NCHW, c_noise_N, caption = inputs()
    wide_NCHW = torch.cat([x_NCHW, x_NCHW[..., :2]], 3)
    with pytest.raises(ValueError, match=r"found \[16, 18\] pixels, expected multiples of 4"):
        build()(wide_NCHW, c_noise_N, caption)


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match="heads: found 3, expected a divisor of the 32 channels"):
        models.build(SMALL.model_copy(update={"heads": 3}))


def test_every_input_and_every_parameter_matters() -> None:
    model = build()
    x_NCHW, c_noise_N, caption = inputs()
    base = model(x_NCHW, c_noise_N, caption)
    other_tokens = caption.tokens_NL.clone()
    other_tokens[:, 2] += 1
    changed = Caption(other_tokens % 300, caption.mask_NL)
    assert not torch.allclose(base, model(x_NCHW, c_noise_N, changed), atol=1e-4)
    assert not torch.allclose(base, model(x_NCHW, c_noise_N + 50, caption), atol=1e-4)
    assert not torch.allclose(base, model(x_NCHW + 0.1, c_noise_N, caption), atol=1e-4)
    base.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_padding_does_not_matter() -> None:
    model = build()
    x_NCHW, c_noise_N, caption = inputs()
    noisy_padding = caption.tokens_NL.masked_fill(~caption.mask_NL, 77)
    base = model(x_NCHW, c_noise_N, caption)
    torch.testing.assert_close(model(x_NCHW, c_noise_N, Caption(noisy_padding, caption.mask_NL)), base)
    shorter = Caption(caption.tokens_NL[:, :4], caption.mask_NL[:, :4])
    torch.testing.assert_close(model(x_NCHW, c_noise_N, shorter), base)


def test_a_dropped_caption_is_the_null_caption() -> None:
    model = build()
    x_NCHW, c_noise_N, caption = inputs()
    null = Caption(torch.tensor([[1, 0, 0, 0, 0, 0]] * 2), torch.tensor([[True] + [False] * 5] * 2))
    dropped = caption.dropped(torch.tensor([True, False]))
    expected = torch.stack([model(x_NCHW, c_noise_N, null)[0], model(x_NCHW, c_noise_N, caption)[1]])
    torch.testing.assert_close(model(x_NCHW, c_noise_N, dropped), expected)


def test_samples_of_a_batch_do_not_mix() -> None:
    model = build()
    x_NCHW, c_noise_N, caption = inputs(3)
    together = model(x_NCHW, c_noise_N, caption)
    for i in range(3):
        alone = model(x_NCHW[i : i + 1], c_noise_N[i : i + 1], Caption(*(part[i : i + 1] for part in caption)))
        torch.testing.assert_close(alone[0], together[i])


def test_a_caption_encoded_before_gives_the_same() -> None:
    model = build()
    x_NCHW, c_noise_N, caption = inputs()
    assert torch.equal(model(x_NCHW, c_noise_N, model.encode(caption)), model(x_NCHW, c_noise_N, caption))


def test_residuals_are_added_to_skips_and_middle() -> None:
    model = build()
    x_NCHW, c_noise_N, caption = inputs()
    skips = [torch.zeros(2, 16, 8, 8), torch.zeros(2, 32, 4, 4), torch.zeros(2, 32, 4, 4)]
    base = model(x_NCHW, c_noise_N, caption)
    assert torch.equal(model(x_NCHW, c_noise_N, caption, skips), base)
    for i in range(3):
        pushed = [skip + (i == j) * torch.linspace(0, 1, 2).view(-1, 1, 1, 1) for j, skip in enumerate(skips)]
        moved = model(x_NCHW, c_noise_N, caption, pushed)
        torch.testing.assert_close(moved[0], base[0])
        assert not torch.allclose(moved[1], base[1], atol=1e-4)
    with pytest.raises(ValueError, match="shorter"):
        model(x_NCHW, c_noise_N, caption, skips[::2])


def test_channels_last_and_bfloat16_give_nearly_the_same() -> None:
    model = build()
    arguments = inputs()
    base = model(*arguments)
    fast = build().to(memory_format=torch.channels_last)
    torch.testing.assert_close(fast(*arguments), base, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = fast(*arguments).float()
    assert (rounded - base).norm() < 0.03 * base.norm()


def test_it_is_one_graph() -> None:
    # The "eager" backend runs no compiler: this tests only that nothing breaks the graph.
    model = build()
    arguments = inputs()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*arguments), model(*arguments))


@pytest.mark.parametrize("masked", [False, True])
def test_plain_attention_equals_the_fused_one(masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, length, 16, generator=generator) for length in (10, 7, 7))
    mask = (torch.arange(7) < 5)[None, None, None] if masked else None
    plain = attend(q.bfloat16(), k.bfloat16(), v.bfloat16(), mask).float()
    torch.testing.assert_close(plain, attend(q, k, v, mask), rtol=0.02, atol=0.02)


def test_a_canvas_is_a_sum_of_cosines_of_any_size() -> None:
    torch.manual_seed(0)
    canvas = Canvas(8, 3)
    embedding_NE = torch.randn(2, 8)
    painted_NCHW = canvas(embedding_NE, 5, 7)
    weights = canvas.weights(embedding_NE).view(2, 3, 4, 4)
    row, column = 2, 6
    waves = torch.outer(
        (torch.arange(4) * math.pi * (row + 0.5) / 5).cos(), (torch.arange(4) * math.pi * (column + 0.5) / 7).cos()
    )
    assert painted_NCHW.shape == (2, 3, 5, 7)
    torch.testing.assert_close(painted_NCHW[..., row, column], (weights * waves).sum((2, 3)))
