"""Builds a dataset from a table of images.

Usage: headrace build RECIPE [key.path=value …], or spark-submit jobs/build.py RECIPE [key.path=value …]
"""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from jobs.run import exit_status
from pipelines.dataset.absence import CAUSES
from pipelines.dataset.build import Summary, build
from pipelines.dataset.session import spark_session
from pipelines.errors import RecipeError
from pipelines.recipe import load_recipe


def main(argv: Sequence[str] | None = None) -> int:
    """Build the dataset of a recipe; returns the exit status."""
    return exit_status(_build, sys.argv[1:] if argv is None else argv)


def _build(argv: Sequence[str]) -> None:
    if not argv:
        raise RecipeError("arguments: found none, expected RECIPE [key.path=value …]")
    recipe = load_recipe(argv[0], argv[1:], needs=["dataset"])
    assert recipe.dataset is not None
    spark = spark_session("headrace build", recipe.spark)
    summary = build(spark, recipe.dataset)
    Console().print(summary_table(summary))


def summary_table(summary: Summary) -> Table:
    """The counts of a build as a table for the terminal."""
    table = Table("", "", title=f"{summary.path}, version {summary.version}", show_header=False)
    ratio = summary.stored_bytes / max(summary.media_bytes, 1)
    table.add_row("media", "by reference" if summary.by_value is None else f"by value: {summary.by_value}")
    table.add_row("rows in", f"{summary.rows_in:,}")
    table.add_row("rows exploded", f"{summary.samples:,}")
    for reason, count in sorted(summary.dropped.items()):
        table.add_row(f"dropped, {reason}", f"{count:,}")
    table.add_row("rows written", f"{summary.rows:,}")
    table.add_row("images", f"{summary.images:,}")
    table.add_row("shards", f"{summary.shards:,}")
    table.add_row(
        "bytes stored / unique media bytes", f"{summary.stored_bytes:,} / {summary.media_bytes:,} = {ratio:.3f}"
    )
    for name, column in summary.absence["columns"].items():
        if column["nulls"]:
            causes = ", ".join(f"{cause} {column[cause]['count']:,}" for cause in CAUSES if column[cause]["count"])
            table.add_row(f"absent, {name}", f"{column['nulls']:,} of {column['rows']:,}: {causes}")
    table.add_row("seconds", "  ".join(f"{stage} {seconds:.1f}" for stage, seconds in summary.seconds.items()))
    return table


if __name__ == "__main__":
    sys.exit(main())
