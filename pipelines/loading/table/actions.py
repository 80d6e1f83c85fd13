"""The actions of a Delta commit that say what a table holds, with the types that the protocol gives their fields."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)


class Add(_Strict):
    """A file of the table."""

    path: str
    size: int = Field(ge=1, lt=1 << 63)
    partitionValues: dict[str, str | None]
    stats: str | None = None
    deletionVector: dict[str, Any] | None = None


class Remove(_Strict):
    """A file that is no longer in the table."""

    path: str


class Protocol(_Strict):
    """What a table asks of its reader."""

    minReaderVersion: int
    readerFeatures: list[str] | None = None


class Format(_Strict):
    """How files are stored. Delta has only one way."""

    provider: str = Field(default="parquet", pattern="^parquet$")


class Metadata(_Strict):
    """The columns and settings of a table."""

    schemaString: str
    partitionColumns: list[str]
    configuration: dict[str, str | None] | None = None
    format: Format = Format()


class Action(_Strict):
    """A line of a commit. Actions that don't change what is read, or that come with unknown features, are ignored."""

    add: Add | None = None
    remove: Remove | None = None
    protocol: Protocol | None = None
    metaData: Metadata | None = None


def actions(lines: Iterable[bytes], name: str) -> Iterator[Action]:
    """The actions in the lines of the commit `name`. Raises ValueError, which names line and field, if one is wrong."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield Action.model_validate_json(line)
            except ValidationError as error:
                raise ValueError(f"{name}, line {number}: {fault(error)}") from None


def fault(error: ValidationError) -> str:
    """The first fault, as one line: which field, what was found, what is expected."""
    first = error.errors(include_url=False)[0]
    expected = first["msg"].removeprefix("Input should be ")
    field = ".".join(map(str, first["loc"]))
    if first["type"] == "json_invalid":
        return f"found text that cannot be read as JSON ({first['ctx']['error']})"
    found = "nothing" if first["type"] == "missing" else _shown(first["input"])
    return f"{field or 'action'}: found {found}, expected {expected[0].lower()}{expected[1:]}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}…"
