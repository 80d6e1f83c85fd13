"""Builds a dataset from a table of images."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace.errors import RecipeError
from headrace.jobs.arguments import Parser
from headrace.jobs.run import run_job
from headrace.recipe import Recipe, load_recipe

if TYPE_CHECKING:
    from headrace.dataset.version.summary import Summary


def main(argv: Sequence[str] | None = None) -> int:
    """Build the dataset of a recipe; returns the exit status."""
    return run_job(_build, _parser(), argv)


def _parser() -> Parser:
    parser = Parser(
        "headrace build",
        "Build a dataset from a table of images: run the recipe's query on Spark, write shards, commit a new version.\n"
        "If recipe, code and source are those of the current version, nothing is written.\n"
        "`spark-submit jobs/build.py` takes the same arguments.",
        [
            "headrace build recipes/emoji.yaml",
            "headrace build recipes/fashion.yaml split=train",
            "headrace build recipes/emoji.yaml dataset.shuffle.seed=1 --dry-run",
            "headrace build recipes/emoji.yaml --vacuum=48",
        ],
    )
    parser.recipe(
        "a key of the recipe and its value in YAML, as in dataset.shuffle.seed=1; or a partition of the output and its "
        "value, as in ds=2026-11-22: then only this partition is built"
    )
    modes = parser.add_mutually_exclusive_group()
    modes.add_argument(
        "--dry-run", action="store_true", help="print the query, Spark's plan and estimates, and write nothing"
    )
    parser.value_after_equals(
        modes,
        "--vacuum",
        "HOURS",
        "24",
        _hours,
        "instead of a build, delete the shards that no version uses and that are at least HOURS old (24 by default): "
        "killed builds leave them",
    )
    return parser


def _hours(text: str) -> float:
    try:
        hours = float(text)
    except ValueError:
        hours = -1.0
    if not hours >= 0:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected hours, 0 or more")
    return hours


def _build(arguments: argparse.Namespace) -> None:
    partitions = [text for text in arguments.overrides if _is_partition(text)]
    overrides = [text for text in arguments.overrides if text not in partitions]
    recipe = load_recipe(arguments.recipe, overrides, needs=["dataset"])
    assert recipe.dataset is not None
    if len(partitions) > 1:
        raise RecipeError(f"argument: found partitions {' '.join(partitions)}, expected one")
    if arguments.vacuum is not None:
        _vacuum(recipe.dataset.output.path, arguments.vacuum)
        return
    partition = _pair(partitions[0]) if partitions else None
    from headrace.dataset.build import build  # pyspark takes a second to import; --help should not
    from headrace.dataset.partitions import check_name
    from headrace.dataset.session import spark_session

    check_name(recipe.dataset.output, partition)  # before a session starts, which takes seconds

    spark = spark_session("headrace build", recipe.spark)
    _print(build(spark, recipe.dataset, partition, dry_run=arguments.dry_run))


def _is_partition(text: str) -> bool:
    """Whether `text` is name=value for a partition rather than an override of one of the recipe's keys."""
    name, equals, _ = text.partition("=")
    return bool(equals) and "." not in name and name not in Recipe.model_fields


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _vacuum(path: str, hours: float) -> None:
    from headrace.dataset.version.vacuum import vacuum

    removed = vacuum(path, hours)
    files = "file" if len(removed) == 1 else "files"
    print(f"{path}: removed {len(removed):,} {files} that no version uses", *removed, sep="\n  ")


def _print(summary: Summary) -> None:
    from headrace.jobs.table import print_table, table

    if summary.unchanged:
        print(f"{summary.path}: unchanged, version {summary.version} has the same recipe, code and source")
    elif summary.dry_run:
        print(f"{summary.sql}\n\n{summary.plan}\n{summary.path}, dry run: nothing written")
        print_table(table(_estimates(summary)))
    else:
        print(f"{summary.path}, version {summary.version}")
        print_table(table(_counts(summary)))


def _estimates(summary: Summary) -> list[tuple[str, str]]:
    """Names and values of what a dry run estimates."""
    return [
        _media(summary),
        ("rows in", f"{summary.rows_in:,}"),
        ("rows with samples", f"{summary.rows_named:,}"),
        ("media bytes", f"{summary.media_bytes:,}"),
        ("shards, about", f"{summary.shards:,}"),
    ]


def _counts(summary: Summary) -> list[tuple[str, str]]:
    """Names and values of what a build counted."""
    where = "quarantined" if summary.quarantined else "dropped"
    rows = [
        _media(summary),
        ("rows in", f"{summary.rows_in:,}"),
        *((f"left out, {reason}", f"{count:,}") for reason, count in sorted(summary.dropped_rows.items())),
        *((f"left out, {reason}", f"{count:,}") for reason, count in sorted(summary.dropped_captions.items())),
        ("rows exploded", f"{summary.samples:,}"),
        *((f"{where}, {reason}", f"{count:,}") for reason, count in sorted(summary.dropped.items())),
        ("rows written", f"{summary.rows:,}"),
    ]
    if summary.media_bytes:
        rows.append(("images", f"{summary.images:,}"))
    rows.append(("shards", f"{summary.shards:,}"))
    if summary.media_bytes:
        ratio = f"{summary.stored_bytes:,} / {summary.media_bytes:,} = {summary.stored_bytes / summary.media_bytes:.3f}"
        rows.append(("bytes stored / unique media bytes", ratio))
    else:
        rows.append(("bytes stored", f"{summary.stored_bytes:,}"))
    seconds = "  ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items())
    return [*rows, *_absent(summary), ("seconds", seconds)]


def _media(summary: Summary) -> tuple[str, str]:
    return "media", "by reference" if summary.by_value is None else f"by value: {summary.by_value}"


def _absent(summary: Summary) -> list[tuple[str, str]]:
    """For each column with nulls, how many it has, by cause."""
    from headrace.dataset.query.absence import CAUSES

    rows = []
    for name, column in summary.absence["columns"].items():
        if column["nulls"]:
            causes = ", ".join(f"{cause} {column[cause]['count']:,}" for cause in CAUSES if column[cause]["count"])
            rows.append((f"absent, {name}", f"{column['nulls']:,} of {column['rows']:,}: {causes}"))
    return rows


if __name__ == "__main__":
    sys.exit(main())
