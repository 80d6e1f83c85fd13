"""Averaged weights: the closed form, and that they are stepped at all."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipelines.training.ema import Ema


def test_closed_form() -> None:
    """With weights 0 at first and 1 from then on, the average is 1 − the product of the decays."""
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


def test_weights_and_averages_trade_places() -> None:
    module = nn.Linear(2, 2)
    ema = Ema(dict(module.named_parameters()), 0.9)
    nn.init.constant_(module.weight, 7.0)
    average = ema.averages["weight"].clone()
    ema.swap()
    assert torch.equal(module.weight, average)
    ema.swap()
    assert torch.equal(ema.averages["weight"], average)
    assert (module.weight == 7.0).all()
