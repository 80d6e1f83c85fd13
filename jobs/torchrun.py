"""torchrun, but with the exit status of the job: 143 after SIGTERM, 2 for a wrong recipe, 3 for unusable data.

torchrun itself always ends with 1, so that a scheduler cannot tell a run that can continue from one that cannot.
"""

import argparse
import sys
from collections.abc import Sequence

from headrace.jobs.arguments import Parser
from headrace.jobs.run import FAILED, UNUSABLE_DATA, WRONG_RECIPE, run_job


def main(argv: Sequence[str] | None = None) -> int:
    """Launch ranks and wait for them; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in {"-h", "--help"}:
        return run_job(_nothing, _parser(), arguments)
    return _launch(arguments)


def _parser() -> Parser:
    parser = Parser(
        "python -m headrace.jobs.torchrun",
        "Run torchrun, and end with the exit status of the ranks: torchrun itself ends with 1 whatever happened.\n"
        "All options before SCRIPT are torchrun's; `torchrun --help` lists them.",
        ["python -m headrace.jobs.torchrun --standalone --nproc-per-node 2 jobs/train.py recipes/emoji.yaml"],
    )
    parser.usage = "%(prog)s [torchrun's options] SCRIPT [argument ...]"
    parser.add_argument("script", metavar="SCRIPT", help="what each rank runs: jobs/train.py")
    parser.add_argument("arguments", metavar="argument", nargs="*", default=[], help="the script's own arguments")
    return parser


def _nothing(arguments: argparse.Namespace) -> None:
    """Do nothing: the parser has printed the help."""


def _launch(arguments: list[str]) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    try:
        torchrun(arguments)
    except SignalException as signal:
        return 128 + int(signal.sigval)
    except ChildFailedError as error:
        statuses = {failure.exitcode for failure in error.failures.values()}
        known = [status for status in (143, WRONG_RECIPE, UNUSABLE_DATA) if status in statuses]
        print(error, file=sys.stderr)
        return known[0] if known else FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
