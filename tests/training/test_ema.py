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
    ema = Ema(module, 0.9)
    nn.init.ones_(module.weight)
    left = 1.0
    for step in range(1, 200):
        ema.update(step)
        left *= min(0.9, step / (step + 9))
        assert ema.averages["weight"].item() == pytest.approx(1 - left, rel=1e-4)


def test_no_averaging_takes_the_weights_themselves() -> None:
    module = nn.Linear(2, 2)
    ema = Ema(module, 0.0)
    nn.init.constant_(module.weight, 7.0)
    ema.update(1)
    assert torch.equal(ema.averages["weight"], module.weight)
    assert ema.averages["weight"].data_ptr() != module.weight.data_ptr()


def test_state_holds_buffers_as_they_are_and_comes_back() -> None:
    module = nn.BatchNorm1d(3)
    ema = Ema(module, 0.99)
    module.running_mean.fill_(5.0)  # type: ignore[union-attr]
    nn.init.constant_(module.weight, 2.0)
    ema.update(1)
    state = ema.state_dict()
    assert torch.equal(state["running_mean"], torch.full((3,), 5.0))
    other = nn.BatchNorm1d(3)
    other.load_state_dict(state)
    again = Ema(nn.BatchNorm1d(3), 0.99)
    again.load_state_dict({name: value.clone() for name, value in state.items()})
    assert all(torch.equal(again.averages[name], ema.averages[name]) for name in ema.averages)
