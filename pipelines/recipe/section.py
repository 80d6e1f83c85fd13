"""The base class of every recipe section: unknown keys are errors, and values never change."""

from collections.abc import Callable
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict


def tag_of(key: str, default: str) -> Callable[[Any], str]:
    """A discriminator for a union whose branches have the tags `[name]`, where name is the value of `key`.

    A section without `key` belongs to the branch `default`.
    """

    def tag(value: Any) -> str:
        name = value.get(key, default) if isinstance(value, dict) else getattr(value, key, default)
        return f"[{name}]"

    return tag


def is_branch(section: type[BaseModel], tag: str) -> bool:
    """Whether `section` is the branch with this tag: one of its fields is the literal of that name."""
    return any(tag[1:-1] in get_args(field.annotation) for field in section.model_fields.values())


class Section(BaseModel):
    """A part of a recipe. Error messages quote a field's description after "expected"."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)
