"""List the threads of this process and of its Spark session.

Usage: headrace threads [--watch [SECONDS]] [--json] [--executors]

--watch lists again every SECONDS (2) until Ctrl-C; --json prints one JSON object a listing; --executors lists the
threads of Spark's executors too, by a small job.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live

from headrace.jobs.run import exit_status
from headrace.udfs.thread_table import Thread, table, threads

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NO_SESSION = "no Spark session in this process: its Python threads only"


def main(argv: Sequence[str] | None = None) -> int:
    """List once, or with --watch until interrupted."""
    return exit_status(_run, sys.argv[1:] if argv is None else argv)


def _run(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="headrace threads", description="List the threads of this process and of Spark."
    )
    parser.add_argument(
        "--watch", nargs="?", type=_seconds, const=2.0, metavar="SECONDS", help="refresh, every 2 seconds"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a listing")
    parser.add_argument("--executors", action="store_true", help="executors' threads too, by a small job")
    arguments = parser.parse_args(argv)
    console = Console()
    try:
        if arguments.json or arguments.watch is None:
            _print(console, arguments)
            while arguments.watch is not None:
                time.sleep(arguments.watch)
                _print(console, arguments)
        else:
            _watch(console, arguments)
    except KeyboardInterrupt:
        return


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0.1 <= seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text}: expected 0.1 to 3600 seconds")
    return seconds


def _session() -> SparkSession | None:
    """The session of this process, if it has one; pyspark is not imported to find that it has none."""
    if "pyspark" not in sys.modules:
        return None
    from pyspark.sql import SparkSession

    return SparkSession.getActiveSession()


def _listing(executors: bool) -> tuple[list[Thread], str]:
    spark = _session()
    listed = threads(spark, executors=executors and spark is not None)
    deadlocked = sum(thread.deadlocked for thread in listed)
    title = f"{len(listed)} threads, {deadlocked} deadlocked"
    return listed, title if spark is not None else f"{title}; {NO_SESSION}"


def _print(console: Console, arguments: argparse.Namespace) -> None:
    listed, title = _listing(arguments.executors)
    if arguments.json:
        print(json.dumps({"title": title, "threads": [dataclasses.asdict(thread) for thread in listed]}), flush=True)
    else:
        console.print(table(listed, title))


def _watch(console: Console, arguments: argparse.Namespace) -> None:
    with Live(table(*_listing(arguments.executors)), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(arguments.watch)
            live.update(table(*_listing(arguments.executors)), refresh=True)


if __name__ == "__main__":
    sys.exit(main())
