"""Writes the report of a dataset or a run as one HTML file."""

import argparse
import sys
from collections.abc import Sequence

from headrace.jobs.arguments import Parser
from headrace.jobs.run import run_job


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report and print its path; returns the exit status."""
    return run_job(_report, _parser(), argv)


def _parser() -> Parser:
    parser = Parser(
        "headrace report",
        "Write the report of a dataset or a run as one HTML file, and print its path.",
        ["headrace report data/emoji", "headrace report runs/emoji"],
    )
    parser.add_argument("path", metavar="DATASET|RUN", help="the folder of a dataset or of a run")
    return parser


def _report(arguments: argparse.Namespace) -> None:
    from headrace.reports.report import write_report  # takes a second to import; --help should not

    print(write_report(arguments.path))


if __name__ == "__main__":
    sys.exit(main())
