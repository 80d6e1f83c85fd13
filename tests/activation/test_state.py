"""What a block's second run depends on besides its arguments: buffers, in-place changes, and whose weights it has."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from torch import Tensor, nn

from headrace import activation
from headrace.errors import RecipeError
from headrace.models.recurrent import RecurrentLayer


class Counting(nn.Module):
    """Its result depends on a buffer that it changes."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        self.scale.mul_(1.5)
        return x + torch.tanh(self.linear(x)) * self.scale


def gradients_under(policy: str | int, blocks: nn.ModuleList, change: bool) -> list[Tensor]:
    """Gradients of two passes over copies of `blocks`, each followed by an in-place change, and the final buffers."""
    copies = copy.deepcopy(blocks)
    activation.apply(copies, policy)  # type: ignore[arg-type]
    for _ in range(2):
        x = torch.linspace(-1, 1, 12).view(3, 4).requires_grad_()
        x = x[:, None] if isinstance(copies[0], RecurrentLayer) else x
        for block in copies:
            x = block(x)
            if change:
                x.mul_(1.7)
        x.square().sum().backward()
    return [*(p.grad for p in copies.parameters() if p.grad is not None), *copies.buffers()]


@pytest.mark.parametrize("policy", ["full", "every_k", "sqrt", "selective", 4000])
@pytest.mark.parametrize(
    "block", [Counting, lambda: nn.utils.spectral_norm(nn.Linear(4, 4)), lambda: nn.BatchNorm1d(4)]
)
def test_buffers_that_a_block_reads_and_changes(block: Callable[[], nn.Module], policy: str | int) -> None:
    torch.manual_seed(0)
    blocks = nn.ModuleList(block() for _ in range(5))
    found, expected = gradients_under(policy, blocks, False), gradients_under("none", blocks, False)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("policy", ["full", "every_k", "sqrt", "selective", 4000])
def test_outputs_that_are_changed_in_place_before_the_next_block(policy: str | int) -> None:
    torch.manual_seed(0)
    blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 4)) for _ in range(6))
    found, expected = gradients_under(policy, blocks, True), gradients_under("none", blocks, True)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("policy", ["full", "selective"])
def test_recurrent_blocks(cell: Literal["gru", "lstm"], policy: str) -> None:
    torch.manual_seed(0)
    blocks = nn.ModuleList(RecurrentLayer(4, cell) for _ in range(2))
    found, expected = gradients_under(policy, blocks, False), gradients_under("none", blocks, False)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_copy_of_a_compiled_block_has_its_own_weights() -> None:
    blocks = nn.ModuleList([nn.Linear(2, 2)])
    activation.apply(blocks, "full", compile=True)
    ours, theirs = blocks[0], copy.deepcopy(blocks)[0]
    with torch.no_grad():
        ours.weight.zero_()
        ours.bias.zero_()
    x = torch.ones(1, 2)
    assert not ours(x).any()
    assert theirs(x).any()


@pytest.mark.parametrize(("policy", "every"), [(0, 2), (-3, 2), (True, 2), ("every_k", 0)])
def test_numbers_below_one_are_refused(policy: str | int, every: int) -> None:
    with pytest.raises(RecipeError, match=r"training\.activation: found"):
        activation.apply(nn.ModuleList([nn.Linear(2, 2)]), policy, every=every)  # type: ignore[arg-type]
