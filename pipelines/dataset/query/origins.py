"""Which columns of a plan are functions of one row of the source, and which of them are that row's key.

Columns are followed by their ids in Spark's plan, since any column may be named like the key.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.dataset.query.plan import PASSING, is_view, items, kind, nodes


@dataclass(frozen=True)
class Origin:
    """A column that is a function of one source row: of the row that `row` stands for. `is_key` if it is its key."""

    row: Hashable
    is_key: bool


class Origins:
    """The origins of the columns in the plan `root`, a query over the temporary view `view` with the unique `key`."""

    def __init__(self, root: Any, view: str, key: str) -> None:
        self._view, self._key = view, key
        self._definitions = {node.id(): node.child() for node in nodes(root, view) if kind(node) == "CTERelationDef"}
        self._found: dict[int, list[Origin | None]] = {}

    def decided_by_key(self, columns: Sequence[Any], compared: Sequence[Any], below: Any) -> bool:
        """Whether each of `columns` is a function of a row whose key is among `compared`, all over the plan `below`."""
        known = self.of(below)
        found = [_origin(column, known) for column in compared]
        keys = {origin.row for origin in found if origin is not None and origin.is_key}
        origins = [_origin(column, known) for column in columns]
        return all(origin is not None and origin.row in keys for origin in origins)

    def key_column(self, plan: Any) -> int | None:
        """The place of the first column of `plan` that is the key of a source row; None if there is none."""
        places = (i for i, origin in enumerate(self._in_order(plan)) if origin is not None and origin.is_key)
        return next(places, None)

    def of(self, plan: Any) -> dict[int, Origin]:
        """The origins of the columns of `plan`, by column id; those that are not known are left out."""
        name, children = kind(plan), items(plan.children())
        if is_view(plan, self._view):
            columns = items(plan.output())
            row = columns[0].exprId().id()
            return {column.exprId().id(): Origin(row, column.name() == self._key) for column in columns}
        if name == "CTERelationRef":
            return self._of_reference(plan)
        if name == "Union":
            return self._of_union(plan, children)
        if name not in PASSING:
            return {}
        known = {number: origin for child in children for number, origin in self.of(child).items()}
        made = {column.exprId().id(): _origin(column, known) for column in _made(plan)}
        return known | {number: origin for number, origin in made.items() if origin is not None}

    def _of_reference(self, reference: Any) -> dict[int, Origin]:
        """Two references to one CTE stand for two rows."""
        number, columns = reference.cteId(), items(reference.output())
        if number not in self._found:
            self._found[number] = self._in_order(self._definitions[number])
        instance = columns[0].exprId().id()
        return {
            column.exprId().id(): Origin((instance, origin.row), origin.is_key)
            for column, origin in zip(columns, self._found[number], strict=True)
            if origin is not None
        }

    def _of_union(self, union: Any, children: Sequence[Any]) -> dict[int, Origin]:
        """Only keys are followed: the media beside them are those of different columns in different branches."""
        branches = zip(*(self._in_order(child) for child in children), strict=True)
        return {
            column.exprId().id(): Origin(tuple(origin.row for origin in origins if origin is not None), True)
            for column, origins in zip(items(union.output()), branches, strict=True)
            if all(origin is not None and origin.is_key for origin in origins)
        }

    def _in_order(self, plan: Any) -> list[Origin | None]:
        known = self.of(plan)
        return [known.get(column.exprId().id()) for column in items(plan.output())]


def _made(node: Any) -> list[Any]:
    """The columns that `node` makes itself of values of one row below it."""
    if kind(node) == "Project":
        return items(node.projectList())
    if kind(node) == "Aggregate":  # it makes others of many rows
        aliases = (column for column in items(node.aggregateExpressions()) if kind(column) == "Alias")
        return [alias for alias in aliases if kind(alias.child()) == "AttributeReference"]
    return []


def _origin(expression: Any, known: dict[int, Origin]) -> Origin | None:
    """The origin of `expression` over columns with `known` origins."""
    if kind(expression) == "AttributeReference":
        return known.get(expression.exprId().id())
    if kind(expression) == "Alias":
        return _origin(expression.child(), known)
    used = [known.get(column.exprId().id()) for column in items(expression.references().toSeq())]
    rows = {origin.row if origin is not None else None for origin in used}
    if len(rows) != 1 or None in rows or not expression.deterministic():
        return None
    return Origin(rows.pop(), False)
