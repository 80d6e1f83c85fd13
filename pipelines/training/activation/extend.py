"""Extending one module's class in place, so that names of parameters, hooks and copies stay what they were."""

from __future__ import annotations

from typing import Any

from torch import nn


class Extended(nn.Module):
    """The mark of a block whose class was extended."""


def extend(block: nn.Module, extension: type[Extended], **attributes: Any) -> None:
    """Put `extension` before `block`'s class, with `attributes` set on the block."""
    block.__class__ = _extended(type(block), extension, tuple(attributes))
    for name, value in attributes.items():
        object.__setattr__(block, name, value)


def _extended(kind: type[nn.Module], extension: type[Extended], extras: tuple[str, ...]) -> type[nn.Module]:
    """The class of all extended blocks of a kind: as it is one class, compiled blocks of one size share a graph."""
    for known in kind.__subclasses__():
        if known.__bases__ == (extension, kind):
            return known
    return type(kind.__name__, (extension, kind), {"__module__": kind.__module__, "_extras": extras})


def restore(block: nn.Module) -> None:
    """Give `block` its own class back."""
    while isinstance(block, Extended):
        kind: Any = type(block)
        for name in kind._extras:
            object.__delattr__(block, name)
        block.__class__ = kind.__bases__[1]
