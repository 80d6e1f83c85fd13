"""ControlNets leave their base unchanged, start with zero output, and add up."""

import copy
import hashlib

import pytest
import torch
from torch import Tensor

from headrace import models
from headrace.models import Caption, Control, Controlled, ControlNet
from headrace.recipe.model import UNet
from headrace.recipe.text import Text

TEXT = Text(vocabulary=300, length=6, width=16, layers=1, heads=2)
RECIPE = UNet(resolution=16, patch=2, channels=16, multipliers=(1, 2), blocks=1, attention=(1,), heads=2, text=TEXT)


def noisy(module: torch.nn.Module, seed: int) -> None:
    """Give every zero-initialised branch random weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def base() -> models.TextToImage:
    torch.manual_seed(0)
    model = models.build(RECIPE)
    noisy(model, 1)
    return model


def inputs(controls: int = 1, strength: float = 1.0) -> tuple[Tensor, Tensor, Control]:
    generator = torch.Generator().manual_seed(2)
    x_NCHW = torch.randn(2, 3, 16, 16, generator=generator)
    caption = Caption(torch.randint(2, 300, (2, 6), generator=generator), torch.ones(2, 6, dtype=torch.bool))
    conditions = tuple(torch.rand(2, 1, 16, 16, generator=generator) for _ in range(controls))
    return x_NCHW, torch.tensor([10.0, 900.0]), Control(caption, conditions, torch.full((2, controls), strength))


def digest(module: torch.nn.Module) -> str:
    total = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        total.update(name.encode())
        total.update(value.numpy().tobytes())
    return total.hexdigest()


@pytest.mark.parametrize("guess", [False, True])
def test_before_training_the_output_is_the_base_s_bit_for_bit(guess: bool) -> None:
    network = base()
    x_NCHW, c_noise_N, control = inputs(2)
    controlled = Controlled(network, [ControlNet(network), ControlNet(network)], guess)
    assert torch.equal(controlled(x_NCHW, c_noise_N, control), network(x_NCHW, c_noise_N, control.conditioning))


def test_training_changes_every_part_of_the_control_and_nothing_of_the_base() -> None:
    network = base()
    before = digest(network)
    controlled = Controlled(network, [ControlNet(network)])
    start = {name: value.clone() for name, value in controlled.controls.named_parameters()}
    trained = [parameter for parameter in controlled.parameters() if parameter.requires_grad]
    assert len(trained) == len(start)
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    x_NCHW, c_noise_N, control = inputs()
    for _ in range(4):  # the first step changes the joints, the next the condition's last layer, then all
        controlled(x_NCHW, c_noise_N, control).sub(x_NCHW).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert digest(network) == before
    for name, value in controlled.controls.named_parameters():
        assert not torch.equal(value, start[name]), name


def test_a_trained_control_obeys_its_condition_and_its_strength() -> None:
    network = base()
    controlled = Controlled(network, [ControlNet(network)])
    noisy(controlled.controls, 3)
    x_NCHW, c_noise_N, control = inputs()
    plain = network(x_NCHW, c_noise_N, control.conditioning)
    obeyed = controlled(x_NCHW, c_noise_N, control)
    other = control._replace(conditions=(1 - control.conditions[0],))
    assert not torch.allclose(obeyed, plain, atol=1e-3)
    assert not torch.allclose(obeyed, controlled(x_NCHW, c_noise_N, other), atol=1e-3)
    torch.testing.assert_close(controlled(x_NCHW, c_noise_N, control.ignored()), plain)
    mixed = controlled(x_NCHW, c_noise_N, control._replace(strengths_NK=torch.tensor([[1.0], [0.0]])))
    torch.testing.assert_close(mixed, torch.stack([obeyed[0], plain[1]]))


def test_several_controls_add_up() -> None:
    network = base()
    control_net = ControlNet(network)
    noisy(control_net, 3)
    twins = [control_net, copy.deepcopy(control_net)]
    x_NCHW, c_noise_N, one = inputs()
    two = Control(one.conditioning, one.conditions * 2, torch.tensor([[0.25, 0.75]] * 2))
    expected = Controlled(network, twins[:1])(x_NCHW, c_noise_N, one)
    torch.testing.assert_close(Controlled(network, twins)(x_NCHW, c_noise_N, two), expected, rtol=1e-4, atol=1e-5)


def test_guess_mode_is_weaker() -> None:
    network = base()
    control_net = ControlNet(network)
    noisy(control_net, 3)
    x_NCHW, c_noise_N, control = inputs()
    plain = network(x_NCHW, c_noise_N, control.conditioning)
    full, guess = (Controlled(network, [control_net], g)(x_NCHW, c_noise_N, control) for g in (False, True))
    assert 0 < (guess - plain).norm() < (full - plain).norm()


def test_a_condition_of_another_size_or_number_is_refused() -> None:
    network = base()
    controlled = Controlled(network, [ControlNet(network)])
    x_NCHW, c_noise_N, control = inputs()
    small = control._replace(conditions=(torch.zeros(2, 1, 8, 8),))
    with pytest.raises(ValueError, match=r"condition: found \[2, 1, 8, 8\], expected \[2, 1, 16, 16\]"):
        controlled(x_NCHW, c_noise_N, small)
    with pytest.raises(ValueError, match="conditions: found 0, expected 1"):
        controlled(x_NCHW, c_noise_N, control._replace(conditions=()))


def test_patches_must_be_a_power_of_two() -> None:
    network = models.build(RECIPE.model_copy(update={"patch": 3, "resolution": 18}))
    with pytest.raises(ValueError, match="patch: found 3, expected a power of 2"):
        ControlNet(network)


def test_it_is_one_graph_and_runs_in_bfloat16() -> None:
    network = base()
    controlled = Controlled(network, [ControlNet(network), ControlNet(network)])
    noisy(controlled.controls, 3)
    arguments = inputs(2)
    expected = controlled(*arguments)
    compiled = torch.compile(controlled, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(*arguments), expected)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = controlled(*arguments).float()
    assert (rounded - expected).norm() < 0.05 * expected.norm()


def test_a_condition_of_the_image_s_size_joins_latents() -> None:
    network = base()
    control_net = ControlNet(network, scale=4)
    noisy(control_net, 3)
    x_NCHW, c_noise_N, control = inputs()
    whole = control._replace(conditions=(torch.rand(2, 1, 64, 64, generator=torch.Generator().manual_seed(5)),))
    obeyed = Controlled(network, [control_net])(x_NCHW, c_noise_N, whole)
    assert obeyed.shape == x_NCHW.shape
    assert not torch.allclose(obeyed, network(x_NCHW, c_noise_N, control.conditioning), atol=1e-3)
    with pytest.raises(ValueError, match=r"condition: found \[2, 1, 16, 16\], expected \[2, 1, 64, 64\]"):
        Controlled(network, [control_net])(x_NCHW, c_noise_N, control)
