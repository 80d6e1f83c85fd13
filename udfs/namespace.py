"""Python functions that call registered Java functions on columns, with signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import Column

Function = Callable[..., "Column"]


class Namespace:
    """The functions of one Java class: `namespace.best_caption(column, …)` is `best_caption(column, …)` in SQL.

    It calls the methods of this class even if the session's function of that name is replaced later.

    An argument is a Column, the name of a column, or any other Python value, which becomes a literal. Use
    `pyspark.sql.functions.lit` for a literal string. Raises TypeError for keywords that fit no overload.
    """

    def __init__(self, class_name: str, prefix: str, described: Sequence[dict[str, Any]]) -> None:
        self.__doc__ = f"SQL functions of the Java class {class_name}."
        self._class_name = class_name
        for function in described:
            name = function["name"].removeprefix(prefix)
            setattr(self, name, _function(name, function, class_name))

    def __repr__(self) -> str:
        names = ", ".join(name for name in vars(self) if not name.startswith("_"))
        return f"<functions of {self._class_name}: {names}>"


def _snake(camel: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", camel).lower()


def _function(name: str, described: dict[str, Any], class_name: str) -> Function:
    qualified, overloads = described["qualified"], described["overloads"]

    def function(*arguments: Any, **named: Any) -> Column:
        from pyspark.sql import functions as F

        return F.call_function(f"`{qualified}`", *map(_column, _ordered(name, overloads, arguments, named)))

    function.__name__ = function.__qualname__ = name
    function.__module__ = class_name
    signatures = [_signature(overload) for overload in overloads]
    if len(signatures) == 1:
        function.__signature__ = signatures[0]  # type: ignore[attr-defined]
    function.__doc__ = _doc(name, overloads, signatures)
    return function


def _signature(overload: dict[str, Any]) -> inspect.Signature:
    parameters = [
        inspect.Parameter(
            _snake(parameter["name"]),
            inspect.Parameter.VAR_POSITIONAL if parameter["many"] else inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=_Type(parameter["sql"], parameter["optional"]),
        )
        for parameter in overload["parameters"]
    ]
    return inspect.Signature(parameters, return_annotation=_Type(overload["result"], overload["optional"]))


class _Type:
    """An SQL type as help() shows it; `?` marks a type that may be null."""

    def __init__(self, sql: str, optional: bool) -> None:
        self.text = sql + ("?" if optional else "")

    def __repr__(self) -> str:
        return self.text


def _doc(name: str, overloads: Sequence[dict[str, Any]], signatures: Sequence[inspect.Signature]) -> str:
    if len(overloads) == 1:
        return str(overloads[0]["doc"])
    parts = [f"{name}{signature}\n{overload['doc']}" for overload, signature in zip(overloads, signatures, strict=True)]
    return "\n\n".join(part.strip() for part in parts)


def _ordered(
    name: str, overloads: Sequence[dict[str, Any]], arguments: tuple[Any, ...], named: dict[str, Any]
) -> list[Any]:
    """The arguments in the order of an overload that takes them. Keywords may be `min_words` or Java's `minWords`."""
    if not named:
        return list(arguments)
    named = {_snake(key): value for key, value in named.items()}
    for overload in overloads:
        signature = _signature(overload)
        try:
            bound = signature.bind(*arguments, **named)
        except TypeError:
            continue
        return [*bound.args]
    found = ", ".join(repr(key) for key in named)
    choices = "; ".join(f"{name}{_signature(overload)}" for overload in overloads)
    raise TypeError(f"{name}: no overload takes {len(arguments)} arguments and {found}, expected {choices}")


def _column(value: Any) -> Column:
    from pyspark.sql import Column
    from pyspark.sql import functions as F

    if isinstance(value, Column):
        return value
    return F.col(value) if isinstance(value, str) else F.lit(value)
