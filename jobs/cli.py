"""The console script `headrace`: one subcommand per job."""

import importlib
import sys
from collections.abc import Sequence

JOBS = {
    "build": "RECIPE [key=value …] [PARTITION=value] [--dry-run | --vacuum[=HOURS]]: build a dataset from a table",
    "train": "RECIPE [key=value …]: train a model on a dataset",
    "sample": "RUN [key=value …]: draw images from a run",
    "evaluate": "RUN [key=value …]: measure a run: FID and the like, labels, edges, reconstructions",
    "export": "RUN FOLDER: write weights and schedule for other programs",
    "report": "DATASET|RUN: write its report as one HTML file",
    "threads": "list the threads of the JVM and of Python",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `headrace JOB …`; returns the job's exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help"}:
        print("usage: headrace JOB …\n\n" + "\n".join(f"  {job:8} {what}" for job, what in JOBS.items()))
        return 0 if arguments else 2
    job, *rest = arguments
    if job not in JOBS:
        print(f"headrace: found job {job!r}, expected one of {', '.join(JOBS)}", file=sys.stderr)
        return 2
    return importlib.import_module(f"headrace.jobs.{job}").main(rest)
