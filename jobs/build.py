"""Builds a dataset from a table of images.

Usage: headrace build RECIPE [key.path=value …] [PARTITION=value] [--dry-run | --vacuum[=HOURS]]
or spark-submit jobs/build.py with the same arguments.

--dry-run prints the query, Spark's plan of it and estimates, and writes nothing. --vacuum removes shards that no
version names, left by builds that were killed HOURS (24) ago or before.
"""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from headrace.dataset.build import build
from headrace.dataset.query.absence import CAUSES
from headrace.dataset.session import spark_session
from headrace.dataset.version.summary import Summary
from headrace.dataset.version.vacuum import GRACE_HOURS, vacuum
from headrace.errors import RecipeError
from headrace.jobs.run import exit_status
from headrace.recipe import Recipe, load_recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Build the dataset of a recipe; returns the exit status."""
    return exit_status(_build, sys.argv[1:] if argv is None else argv)


def _build(argv: Sequence[str]) -> None:
    options = [argument for argument in argv if argument.startswith("--")]
    arguments = [argument for argument in argv if not argument.startswith("--")]
    if not arguments:
        raise RecipeError("arguments: found none, expected RECIPE [key.path=value …]")
    for option in options:
        if option not in {"--dry-run", "--vacuum"} and not option.startswith("--vacuum="):
            raise RecipeError(f"arguments: found {option!r}, expected --dry-run or --vacuum[=HOURS]")
    if len(options) > 1:
        raise RecipeError(f"arguments: found {' '.join(options)}, expected one of them")
    path, *overrides = arguments
    partitions = [text for text in overrides if _is_partition(text)]
    recipe = load_recipe(path, [text for text in overrides if text not in partitions], needs=["dataset"])
    assert recipe.dataset is not None
    if len(partitions) > 1:
        raise RecipeError(f"arguments: found partitions {' '.join(partitions)}, expected one")
    for option in options:
        if option.startswith("--vacuum"):
            _vacuum(recipe.dataset.output.path, option)
            return
    spark = spark_session("headrace build", recipe.spark)
    partition = _pair(partitions[0]) if partitions else None
    summary = build(spark, recipe.dataset, partition, dry_run="--dry-run" in options)
    _print(summary)


def _is_partition(text: str) -> bool:
    """Whether `text` is name=value for a partition and no override of a recipe's key."""
    name, equals, _ = text.partition("=")
    return bool(equals) and "." not in name and name not in Recipe.model_fields


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value


def _vacuum(path: str, option: str) -> None:
    hours = option.partition("=")[2] or str(GRACE_HOURS)
    try:
        grace = float(hours)
    except ValueError:
        grace = -1.0
    if not grace >= 0:
        raise RecipeError(f"--vacuum: found {hours!r}, expected hours, 0 or more")
    removed = vacuum(path, grace)
    files = "file" if len(removed) == 1 else "files"
    print(f"{path}: removed {len(removed):,} {files} that no version names", *removed, sep="\n  ")


def _print(summary: Summary) -> None:
    console = Console()
    if summary.unchanged:
        console.print(f"{summary.path}: unchanged, version {summary.version} is of the same recipe, code and source")
        return
    if summary.dry_run:
        console.print(f"{summary.sql}\n\n{summary.plan}", markup=False, highlight=False)
    console.print(dry_table(summary) if summary.dry_run else summary_table(summary))


def dry_table(summary: Summary) -> Table:
    """The estimates of a dry run as a table for the terminal."""
    table = Table("", "", title=f"{summary.path}, dry run: nothing written", show_header=False)
    table.add_row("media", "by reference" if summary.by_value is None else f"by value: {summary.by_value}")
    table.add_row("rows in", f"{summary.rows_in:,}")
    table.add_row("rows with samples", f"{summary.rows_named:,}")
    table.add_row("media bytes", f"{summary.media_bytes:,}")
    table.add_row("shards, about", f"{summary.shards:,}")
    return table


def summary_table(summary: Summary) -> Table:
    """The counts of a build as a table for the terminal."""
    table = Table("", "", title=f"{summary.path}, version {summary.version}", show_header=False)
    table.add_row("media", "by reference" if summary.by_value is None else f"by value: {summary.by_value}")
    table.add_row("rows in", f"{summary.rows_in:,}")
    for reason, count in sorted(summary.dropped_rows.items()):
        table.add_row(f"left out, {reason}", f"{count:,}")
    for reason, count in sorted(summary.dropped_captions.items()):
        table.add_row(f"left out, {reason}", f"{count:,}")
    table.add_row("rows exploded", f"{summary.samples:,}")
    for reason, count in sorted(summary.dropped.items()):
        where = "quarantined" if summary.quarantined else "dropped"
        table.add_row(f"{where}, {reason}", f"{count:,}")
    table.add_row("rows written", f"{summary.rows:,}")
    if summary.media_bytes:
        table.add_row("images", f"{summary.images:,}")
    table.add_row("shards", f"{summary.shards:,}")
    if summary.media_bytes:
        ratio = f"{summary.stored_bytes:,} / {summary.media_bytes:,} = {summary.stored_bytes / summary.media_bytes:.3f}"
        table.add_row("bytes stored / unique media bytes", ratio)
    else:
        table.add_row("bytes stored", f"{summary.stored_bytes:,}")
    for name, column in summary.absence["columns"].items():
        if column["nulls"]:
            causes = ", ".join(f"{cause} {column[cause]['count']:,}" for cause in CAUSES if column[cause]["count"])
            table.add_row(f"absent, {name}", f"{column['nulls']:,} of {column['rows']:,}: {causes}")
    table.add_row("seconds", "  ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items()))
    return table


if __name__ == "__main__":
    sys.exit(main())
