"""The classifier of noisy images: its shapes, what it depends on, and that it can be compiled."""

import pytest
import torch
from torch import Tensor

from headrace import models
from headrace.recipe.classifier import Classifier

RECIPE = Classifier(
    network="classifier", labels=5, resolution=16, image_channels=1, channels=16, multipliers=(1, 2), attention=(1,)
)


def build(recipe: Classifier = RECIPE) -> models.Classifier:
    """A network whose zero-initialised branches have weights, as after training."""
    torch.manual_seed(0)
    model = models.build(recipe)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return model.eval()


def images(count: int = 3, size: int = 16, channels: int = 1) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("change", [{}, {"patch": 2, "attention": ()}, {"blocks": 2, "image_channels": 3}])
def test_logits_and_features_have_their_shapes_and_nothing_is_known_before_training(change: dict[str, object]) -> None:
    recipe = Classifier.model_validate(RECIPE.model_dump() | change)
    x_NCHW = images(channels=recipe.image_channels)
    model = build(recipe)
    assert torch.equal(models.build(recipe)(x_NCHW, 0.5), torch.zeros(3, 5))
    features_ND = model.features(x_NCHW)
    assert features_ND.shape == (3, 32) == (3, model.width)
    torch.testing.assert_close(model.logits(features_ND), model(x_NCHW))


def test_one_level_for_all_is_that_level_for_each_and_levels_matter() -> None:
    model, x_NCHW = build(), images()
    sigma_N = torch.tensor([0.0, 0.5, 30.0])
    each_NK = model(x_NCHW, sigma_N)
    for i, sigma in enumerate(sigma_N.tolist()):
        torch.testing.assert_close(model(x_NCHW, sigma)[i], each_NK[i])
    assert not torch.allclose(model(x_NCHW, 0.4), model(x_NCHW, 0.5), atol=1e-3)


def test_every_parameter_matters_and_the_gradient_reaches_the_image() -> None:
    model, x_NCHW = build(), images().requires_grad_()
    model(x_NCHW, 0.7).log_softmax(1)[:, 0].sum().backward()
    assert x_NCHW.grad is not None
    assert x_NCHW.grad.abs().max() > 0
    for name, parameter in model.named_parameters():
        # A key's bias shifts all logits of the attention equally, so it may have no gradient.
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_it_is_one_graph_and_runs_in_bfloat16() -> None:
    model, x_NCHW = build(), images()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x_NCHW, torch.tensor(0.3)), model(x_NCHW, torch.tensor(0.3)))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(x_NCHW, 0.3).float()
    exact = model(x_NCHW, 0.3)
    assert (rounded - exact).norm() < 0.05 * exact.norm()


def test_an_image_of_no_multiple_of_the_stride_is_refused() -> None:
    with pytest.raises(ValueError, match=r"found \[15, 15\] pixels, expected multiples of 2"):
        build()(images(size=15))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"resolution": 15}, "a resolution divisible by 2"),
        ({"attention": (2,)}, "attention at levels from 0 to 1"),
        ({"heads": 5}, "heads that divide the 32 channels at level 1, not 5"),
        ({"labels": 1}, "greater than or equal to 2"),
    ],
)
def test_networks_that_do_not_come_out_even_are_refused(change: dict[str, object], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        Classifier.model_validate(RECIPE.model_dump() | change)
