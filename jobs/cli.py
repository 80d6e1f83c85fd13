"""The console script `headrace`: one subcommand for each job."""

import argparse
import importlib
import sys
from collections.abc import Sequence

import headrace
from headrace.errors import RecipeError
from headrace.jobs.arguments import Parser
from headrace.jobs.run import run_job

JOBS = {
    "build": "build a dataset from a table of images",
    "train": "train a model on a dataset",
    "sample": "draw images from a run",
    "evaluate": "measure a run: FID and similar figures, labels, edges, reconstructions",
    "export": "write a run's weights and schedule for other programs",
    "report": "write the report of a dataset or a run as one HTML file",
    "threads": "list the threads of the JVM and of Python",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run `headrace JOB …`; returns the job's exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0].startswith("-"):
        return run_job(_no_job, _parser(), arguments)
    job, *rest = arguments
    if job not in JOBS:
        return run_job(_no_job, _parser(), [job])
    return importlib.import_module(f"headrace.jobs.{job}").main(rest)


def _parser() -> Parser:
    jobs = "\n".join(f"  {job:8}  {what}" for job, what in JOBS.items())
    parser = Parser(
        "headrace",
        f"From a SQL table of captioned images to a trained generative model.\n\njobs:\n{jobs}",
        ["headrace build recipes/emoji.yaml", "headrace train recipes/emoji.yaml training.steps=200"],
    )
    parser.add_argument("--version", action="version", version=f"headrace {headrace.__version__}")
    parser.usage = "%(prog)s [-h] [--version] JOB [argument ...]"
    parser.add_argument("job", metavar="JOB", nargs="?", help="one of these; `headrace JOB --help` says how to use it")
    return parser


def _no_job(arguments: argparse.Namespace) -> None:
    found = "nothing" if arguments.job is None else repr(arguments.job)
    raise RecipeError(f"argument JOB: found {found}, expected one of {', '.join(JOBS)}")


if __name__ == "__main__":
    sys.exit(main())
