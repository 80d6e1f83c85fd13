"""Which parts of a model are its blocks."""

from collections.abc import Iterator

from torch import nn
from torch.nn.utils.parametrize import ParametrizationList


def blocks_of(model: nn.Module) -> list[nn.Module]:
    """The blocks of `model`, in order of registration: the units that checkpointing keeps or computes again.

    A block is an item of an `nn.ModuleList`, anywhere in the model. Where lists are nested, the innermost list counts,
    because the outer ones only group (the levels of a U-Net). The exception is a list of layers (modules without
    children) inside an item that has a `forward`: it is the inside of a block, such as the two layers of a feed-forward
    network. An item without parameters, or without a `forward` of its own, is not a block. A model whose blocks are
    elsewhere can name them: an attribute `blocks`, any iterable of its modules, is used as it is.
    """
    named = getattr(model, "blocks", None)
    return list(dict.fromkeys(_blocks(model, inside=False) if named is None else named))


def _blocks(module: nn.Module, inside: bool) -> Iterator[nn.Module]:
    """The blocks in `module`; `inside` means that `module` may be a block itself."""
    for items in _lists(module):
        if inside and any(_is_layer(item) for item in items):
            continue
        for item in items:
            runs = type(item).forward is not nn.Module.forward
            inner = list(_blocks(item, inside=runs))
            if not inner and runs and _has_parameters(item):
                inner = [item]
            yield from inner


def _lists(module: nn.Module) -> Iterator[nn.ModuleList]:
    """The outermost lists in `module`."""
    if isinstance(module, nn.ModuleList):
        if not isinstance(module, ParametrizationList):
            yield module
        return
    for child in module.children():
        yield from _lists(child)


def _is_layer(module: nn.Module) -> bool:
    return _has_parameters(module) and next(module.children(), None) is None


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
