"""What a report says of a dataset: its size, some of its rows, and why values are absent."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from pipelines.evaluation.pictures import data_uri

EXAMPLES = 16
ROWS_LOOKED_AT = 2048
SHOWN_CHARACTERS = 120
SHOWN_IMAGE_BYTES = 1 << 18


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


def read_dataset(path: str, version: int | None = None) -> DatasetCard:
    """Read a version (by default the newest) of the dataset at `path`."""
    table = DeltaTable(path, version=version)
    actions = pa.table(table.get_add_actions(flatten=True))
    rows = sum(actions["num_records"].to_pylist())
    stored = sum(actions["size_bytes"].to_pylist())
    head = table.to_pyarrow_dataset().head(ROWS_LOOKED_AT)
    return DatasetCard(
        facts=[
            ("path", path),
            ("version", str(table.version())),
            ("rows", f"{rows:,}"),
            ("shards", f"{actions.num_rows:,}"),
            ("stored", f"{stored / 1e6:,.1f} MB"),
        ],
        columns=head.column_names,
        examples=[[_cell(value) for value in row.values()] for row in _spread(head)],
        absence=list(read_absence(Path(path), table.version())),
    )


def read_absence(path: Path, version: int) -> Iterator[Table]:
    """The absence ledger of a version as tables: one for columns, one for functions."""
    ledger = path / "_headrace" / f"absence-{version}.json"
    if not ledger.is_file():
        return
    for name, entries in json.loads(ledger.read_text(encoding="utf-8")).items():
        yield Table(
            caption=f"by {name.removesuffix('s')}",
            header=[name.removesuffix("s"), "structure", "data", "algorithm", "examples"],
            rows=[],
        )


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
