"""Write the report of a run or a dataset as one HTML file.

Usage: headrace report DATASET|RUN
"""

import sys
from collections.abc import Sequence

from headrace.errors import RecipeError
from headrace.jobs.run import exit_status
from headrace.reports.report import write_report


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report and print where it is; returns the exit status."""
    return exit_status(_report, sys.argv[1:] if argv is None else argv)


def _report(argv: Sequence[str]) -> None:
    if len(argv) != 1:
        raise RecipeError(f"arguments: found {len(argv)}, expected one: a dataset or a run folder")
    print(f"report: {write_report(argv[0])}")


if __name__ == "__main__":
    sys.exit(main())
