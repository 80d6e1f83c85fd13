"""Which modules count as blocks."""

from __future__ import annotations

from torch import Tensor, nn

from headrace.activation import blocks_of


class Item(nn.Module):
    """A module that runs, with `parts`."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x


class Group(nn.Module):
    """A level of blocks, which does not run."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)


def pair() -> nn.Module:
    """A block of two layers that are in no list."""
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def test_lists_only_group_what_is_in_their_innermost_lists() -> None:
    first, second, third = pair(), pair(), pair()
    assert blocks_of(nn.ModuleList([Group(first, second), Group(third)])) == [first, second, third]
    assert blocks_of(nn.ModuleList([Item(first, second), third])) == [first, second, third]
    assert blocks_of(nn.ModuleList([nn.ModuleList([first]), nn.ModuleList([second, third])])) == [first, second, third]


def test_a_list_of_layers_is_the_inside_of_a_block() -> None:
    feed_forward = Item(nn.Linear(2, 8), nn.GELU(), nn.Linear(8, 2))
    assert blocks_of(nn.ModuleList([feed_forward, feed_forward])) == [feed_forward]
    layers = [nn.Linear(2, 2), nn.Linear(2, 2)]
    assert blocks_of(nn.ModuleList(layers)) == layers
    assert blocks_of(Item(*layers)) == layers  # the model itself is not a block
    assert blocks_of(nn.ModuleList([Group(*layers)])) == layers


def test_parametrised_modules_are_blocks_like_others() -> None:
    plain, spectral = nn.Linear(2, 2), nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))
    assert blocks_of(nn.ModuleList([plain, spectral])) == [plain, spectral]


def test_what_has_no_parameters_or_does_not_run_is_no_block() -> None:
    block = pair()
    assert blocks_of(nn.ModuleList([nn.GELU(), nn.ModuleDict({"a": nn.Linear(2, 2)}), block])) == [block]
