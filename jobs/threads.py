"""Lists the threads of this process and of its Spark session."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group
from rich.live import Live
from rich.text import Text

from headrace.jobs.arguments import Parser
from headrace.jobs.run import run_job
from headrace.jobs.table import print_table
from headrace.udfs.thread_table import Thread, table, threads

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NO_SESSION = "no Spark session in this process, so only its Python threads"


def main(argv: Sequence[str] | None = None) -> int:
    """List the threads once, or with --watch until interrupted; returns the exit status."""
    return run_job(_list, _parser(), argv)


def _parser() -> Parser:
    parser = Parser(
        "headrace threads",
        "List the threads of this process and of its Spark session. From Python: headrace.udfs.threads(spark).",
        ["headrace threads", "headrace threads --watch=5", "headrace threads --json"],
    )
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_seconds,
        const=2.0,
        metavar="SECONDS",
        help="list again every SECONDS (2 by default) until Ctrl-C",
    )
    parser.add_argument("--json", action="store_true", help="print each listing as one JSON object")
    parser.add_argument(
        "--executors", action="store_true", help="also list the threads of Spark's executors, by running a small job"
    )
    return parser


def _list(arguments: argparse.Namespace) -> None:
    try:
        if arguments.json or arguments.watch is None:
            _print(arguments)
            while arguments.watch is not None:
                time.sleep(arguments.watch)
                _print(arguments)
        else:
            _watch(arguments)
    except KeyboardInterrupt:
        return


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected 0.1 to 3600 seconds")
    return seconds


def _session() -> SparkSession | None:
    """The session of this process, if it has one. Does not import pyspark: without it there is no session."""
    if "pyspark" not in sys.modules:
        return None
    from pyspark.sql import SparkSession

    return SparkSession.getActiveSession()


def _listing(executors: bool) -> tuple[list[Thread], str]:
    """The threads, and a line that counts them."""
    spark = _session()
    listed = threads(spark, executors=executors and spark is not None)
    deadlocked = sum(thread.deadlocked for thread in listed)
    title = f"{len(listed)} threads, {deadlocked} deadlocked"
    return listed, title if spark is not None else f"{title}; {NO_SESSION}"


def _print(arguments: argparse.Namespace) -> None:
    listed, title = _listing(arguments.executors)
    if arguments.json:
        print(json.dumps({"title": title, "threads": [dataclasses.asdict(thread) for thread in listed]}), flush=True)
    else:
        print(title)
        print_table(table(listed))


def _watch(arguments: argparse.Namespace) -> None:
    def shown() -> Group:
        listed, title = _listing(arguments.executors)
        return Group(Text(title), table(listed))

    with Live(shown(), auto_refresh=False) as live:
        while True:
            time.sleep(arguments.watch)
            live.update(shown(), refresh=True)


if __name__ == "__main__":
    sys.exit(main())
