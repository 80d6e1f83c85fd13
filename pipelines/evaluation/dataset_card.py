"""What a report says of a dataset: its size, some of its rows, and why values are absent."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.evaluation.pictures import data_uri
from pipelines.loading.plan import Plan, plan

EXAMPLES = 16
ROWS_LOOKED_AT = 2048
SHOWN_CHARACTERS = 120
SHOWN_IMAGE_BYTES = 1 << 18
SHOWN_KEYS = 5


@dataclass(frozen=True)
class Cell:
    """One value of an example row: a picture, a text, or nothing."""

    text: str
    image: str | None = None
    absent: bool = False


@dataclass(frozen=True)
class Table:
    """A small table with a caption."""

    caption: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class DatasetCard:
    """A dataset, ready to be shown."""

    facts: list[tuple[str, str]]
    columns: list[str]
    examples: list[list[Cell]]
    absence: list[Table]


def read_dataset(path: str) -> DatasetCard:
    """Read the newest version of the dataset at `path`. Raises DataError where there is none."""
    found = plan(path)
    head = _head(found)
    version = found.place.version
    return DatasetCard(
        facts=[
            ("path", path),
            ("version", "none" if version is None else str(version)),
            ("rows", f"{found.rows.sum():,}"),
            ("shards", f"{len(found):,}"),
            ("stored", f"{found.sizes.sum() / 1e6:,.1f} MB"),
        ],
        columns=head.column_names,
        examples=[[_cell(value) for value in row.values()] for row in _spread(head)],
        absence=[] if version is None else read_absence(Path(path), version),
    )


def _head(found: Plan) -> pa.Table:
    """The first rows of the first shard."""
    with found.place.filesystem.open_input_file(found.path(0)) as file:
        batch = next(pq.ParquetFile(file).iter_batches(ROWS_LOOKED_AT))
    return pa.Table.from_batches([batch])


def read_absence(path: Path, version: int) -> list[Table]:
    """The absence ledger of a version: one table for columns and one for functions; none where it has no ledger."""
    file = path / "_headrace" / f"absence-{version}.json"
    if not file.is_file():
        return []
    ledger = json.loads(file.read_text(encoding="utf-8"))
    lacking = {name: found for name, found in ledger["columns"].items() if found["nulls"]}
    columns = Table(
        caption=f"By column: {len(ledger['columns']) - len(lacking)} of {len(ledger['columns'])} lack nothing",
        header=["column", "rows", "absent", "structure", "data", "algorithm", "keys of some"],
        rows=[_column_row(name, found) for name, found in lacking.items()],
    )
    functions = Table(
        caption="By Java function: what its calls gave",
        header=["call", "values", "data", "algorithm", "failure", "keys of some"],
        rows=[_function_row(call) for call in ledger["functions"]],
    )
    return [columns, functions]


def _column_row(name: str, found: dict[str, Any]) -> list[str]:
    causes = [found[cause] for cause in ("structure", "data", "algorithm")]
    counts = [found["rows"], found["nulls"], *(cause["count"] for cause in causes)]
    return [name, *(f"{count:,}" for count in counts), _some(key for cause in causes for key in cause["examples"])]


def _function_row(call: dict[str, Any]) -> list[str]:
    counts = [call[name] for name in ("values", "data", "algorithm", "failure")]
    shown = _some(key for name in ("data", "algorithm", "failure") for key in call["examples"].get(name, ()))
    return [f"{call['column']} = {call['function']}(…)", *(f"{count:,}" for count in counts), shown]


def _some(keys: Iterable[str]) -> str:
    return ", ".join(list(dict.fromkeys(keys))[:SHOWN_KEYS])


def _spread(head: pa.Table) -> list[dict[str, Any]]:
    """Up to 16 rows from all over `head`."""
    count = min(EXAMPLES, head.num_rows)
    return head.take([i * head.num_rows // count for i in range(count)]).to_pylist() if count else []


def _cell(value: object) -> Cell:
    if value is None:
        return Cell("", absent=True)
    if isinstance(value, bytes):
        shown = data_uri(value) if len(value) <= SHOWN_IMAGE_BYTES else None
        return Cell(f"{len(value):,} bytes", image=shown)
    text = str(value)
    return Cell(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")
