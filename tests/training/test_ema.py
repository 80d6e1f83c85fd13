"""Averaged weights: their closed form, and that training updates them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from headrace.training.ema import Ema, exponent


def test_closed_form() -> None:
    """If weights are 0 at first and 1 from then on, the average is 1 − the product of the decays."""
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    ema = Ema(dict(module.named_parameters()), 0.9)
    nn.init.ones_(module.weight)
    left = 1.0
    for step in range(1, 200):
        ema.update(step)
        left *= min(0.9, step / (step + 9))
        assert ema.averages["weight"].item() == pytest.approx(1 - left, rel=1e-4)


def test_no_averaging_takes_the_weights_themselves() -> None:
    module = nn.Linear(2, 2)
    ema = Ema(dict(module.named_parameters()), 0.0)
    nn.init.constant_(module.weight, 7.0)
    ema.update(1)
    assert torch.equal(ema.averages["weight"], module.weight)
    assert ema.averages["weight"].data_ptr() != module.weight.data_ptr()


def test_weights_and_averages_are_exchanged() -> None:
    module = nn.Linear(2, 2)
    ema = Ema(dict(module.named_parameters()), 0.9)
    nn.init.constant_(module.weight, 7.0)
    average = ema.averages["weight"].clone()
    ema.swap()
    assert torch.equal(module.weight, average)
    ema.swap()
    assert torch.equal(ema.averages["weight"], average)
    assert (module.weight == 7.0).all()


@pytest.mark.parametrize("width", [0.05, 0.1, 0.25])
def test_a_power_function_average_has_its_width_at_every_length_of_the_run(width: float) -> None:
    """The weight of step k is what remains of parameters that were 1 in that step and 0 in all others."""
    for steps in (200, 2000):
        parameter = torch.zeros(steps, dtype=torch.float64)
        ema = Ema({"p": parameter}, 0.999, width)
        for step in range(1, steps + 1):
            parameter.zero_()
            parameter[step - 1] = 1
            ema.update(step)
        profile = ema.averages["p"]
        assert profile.sum().item() == pytest.approx(1)
        times = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
        mean = (profile * times).sum()
        deviation = (profile * (times - mean).square()).sum().sqrt().item()
        assert deviation == pytest.approx(width, rel=0.02)
        assert mean.item() == pytest.approx((exponent(width) + 1) / (exponent(width) + 2), rel=0.01)
