"""The dataset part of a report: size, example images, histograms, absent values and versions."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import fs

from headrace.loading.table.plan import Place, Plan, plan
from headrace.reports.dataset_charts import Chart, charts
from headrace.reports.dataset_sample import Roles, Sampled, images, roles, sample
from headrace.reports.dataset_versions import Version, read_versions, size_in_words
from headrace.reports.pictures import thumbnail

SHOWN_IMAGES = 18
SHOWN_CAPTIONS = 5
SHOWN_CONDITIONS = 4
EXAMPLES = 12
SHOWN_CHARACTERS = 120
SHOWN_KEYS = 5


@dataclass(frozen=True)
class Picture:
    """An image of the dataset, with its captions and their languages, and its conditions and their kinds."""

    name: str
    image: str | None
    captions: list[tuple[str, str]]
    more_captions: int
    conditions: list[tuple[str, str]]


@dataclass(frozen=True)
class Cell:
    """One value of an example row: an image, text, or nothing."""

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
    """What the page shows about a dataset."""

    facts: list[tuple[str, str]]
    pictures: list[Picture]
    charts: list[Chart]
    sampled: str
    columns: list[str]
    examples: list[list[Cell]]
    absence: list[Table]
    versions: list[Version]


def read_dataset(path: str) -> DatasetCard:
    """Read the newest version of the dataset at `path`, a folder or a URI. Raises DataError if there is none."""
    found = plan(path)
    who = roles(found.schema)
    sampled = sample(found, who)
    versions = [] if found.place.version is None else read_versions(path)
    return DatasetCard(
        facts=_facts(path, found, versions),
        pictures=_pictures(sampled, who),
        charts=charts(sampled, who.language is not None),
        sampled=_sampled(sampled, found),
        columns=sampled.tables[0].column_names,
        examples=[[_cell(value) for value in row.values()] for row in _spread(sampled.tables[0])],
        absence=read_absence(found.place),
        versions=versions,
    )


def _facts(path: str, found: Plan, versions: list[Version]) -> list[tuple[str, str]]:
    facts = [
        ("path", path),
        ("version", "none" if found.place.version is None else str(found.place.version)),
        ("rows", f"{found.rows.sum():,}"),
        ("shards", f"{len(found):,}"),
        ("stored", size_in_words(int(found.sizes.sum()))),
    ]
    if versions:
        facts.append(("committed", f"{versions[0].when} UTC"))
    return facts


def _sampled(sampled: Sampled, found: Plan) -> str:
    if sampled.shards == len(found):
        return "Counted over all rows."
    return f"Counted over {sampled.rows:,} rows, in {sampled.shards:,} of {len(found):,} shards."


def _pictures(sampled: Sampled, who: Roles) -> list[Picture]:
    """Images spread over the shards that were read."""
    if who.image is None:
        return []
    tables = sampled.tables[:SHOWN_IMAGES]
    each = -(-SHOWN_IMAGES // len(tables))
    return [_picture(rows, who) for table in tables for rows in images(table, who, each)][:SHOWN_IMAGES]


def _picture(rows: pa.Table, who: Roles) -> Picture:
    assert who.image is not None
    first = rows.slice(0, 1).select([who.image]).to_pylist()[0]
    captions = _distinct(rows, (who.language, who.caption)) if who.caption else []
    conditions: dict[bytes, str] = {}
    for name in who.conditions:
        for kind, image in _distinct(rows, (who.kind, name)):
            conditions.setdefault(image, kind or name)
    shown = [
        (kind, uri)
        for image, kind in sorted(conditions.items(), key=lambda c: c[1])
        if (uri := thumbnail(image)) is not None
    ]
    return Picture(
        name=_name(rows, who),
        image=thumbnail(first[who.image]),
        captions=[(language or "", caption) for language, caption in captions[:SHOWN_CAPTIONS]],
        more_captions=max(0, len(captions) - SHOWN_CAPTIONS),
        conditions=shown[:SHOWN_CONDITIONS],
    )


def _distinct(rows: pa.Table, names: tuple[str | None, str]) -> list[tuple[Any, Any]]:
    """The distinct pairs of values of two columns where the second is not null. The first column may be missing."""
    first, second = names
    values = rows.column(second).to_pylist()
    beside = rows.column(first).to_pylist() if first is not None else [None] * len(values)
    return list(dict.fromkeys((b, v) for b, v in zip(beside, values, strict=True) if v is not None))


def _name(rows: pa.Table, who: Roles) -> str:
    """The value of the first text column without a role, which is usually the key."""
    for field in rows.schema:
        if pa.types.is_string(field.type) and field.name not in who.columns:
            return str(rows.column(field.name)[0].as_py() or "")
    return ""


def read_absence(place: Place) -> list[Table]:
    """The absence ledger of a version: a table of columns and a table of functions. Empty if it has no ledger."""
    path = f"{place.folder}/_headrace/absence-{place.version}.json"
    if place.filesystem.get_file_info(path).type != fs.FileType.File:
        return []
    with place.filesystem.open_input_stream(path) as file:
        ledger = json.loads(file.read())
    lacking = {name: found for name, found in ledger["columns"].items() if found["nulls"]}
    columns = Table(
        caption=f"By column: {len(ledger['columns']) - len(lacking)} of {len(ledger['columns'])} are complete",
        header=["column", "rows", "absent", "structure", "data", "algorithm", "example keys"],
        rows=[_column_row(name, found) for name, found in lacking.items()],
    )
    functions = Table(
        caption="By Java function: the results of its calls",
        header=["call", "values", "data", "algorithm", "failure", "example keys"],
        rows=[_function_row(call) for call in ledger["functions"]],
    )
    return [columns, functions] if functions.rows else [columns]


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


def _spread(table: pa.Table) -> list[dict[str, Any]]:
    """Up to 12 rows, spread over `table`."""
    places = np.unique(np.linspace(0, table.num_rows - 1, min(EXAMPLES, table.num_rows)).astype(int))
    return table.take(pa.array(places)).to_pylist()


def _cell(value: object) -> Cell:
    if value is None:
        return Cell("", absent=True)
    if isinstance(value, bytes):
        return Cell(f"{len(value):,} bytes", image=thumbnail(value))
    text = str(value)
    return Cell(text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…")
