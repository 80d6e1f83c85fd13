"""Extending one module's class in place, so that names of parameters, hooks and copies stay what they were."""

from __future__ import annotations

from typing import Any

from torch import nn


class Extended(nn.Module):
    """The mark of a block whose class was extended."""


def extend(block: nn.Module, extension: type[Extended], **attributes: Any) -> None:
    """Put `extension` before `block`'s class, with `attributes` set on the block."""
    kind = type(block)
    block.__class__ = type(kind.__name__, (extension, kind), {"__module__": kind.__module__, "_extras": (*attributes,)})
    for name, value in attributes.items():
        object.__setattr__(block, name, value)


def restore(block: nn.Module) -> None:
    """Give `block` its own class back."""
    while isinstance(block, Extended):
        kind: Any = type(block)
        for name in kind._extras:
            object.__delattr__(block, name)
        block.__class__ = kind.__bases__[1]
