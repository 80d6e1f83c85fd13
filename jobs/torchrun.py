"""torchrun, but its exit status is that of the job: 143 after SIGTERM, 2 for a wrong recipe, 3 for unusable data.

Usage: python -m headrace.jobs.torchrun [torchrun's options] jobs/train.py RECIPE [key.path=value …]

torchrun itself ends with 1 whatever happened, and a scheduler cannot tell a run that wants to go on from one that
cannot.
"""

import sys
from collections.abc import Sequence

from headrace.jobs.run import UNUSABLE_DATA, WRONG_RECIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Launch ranks and wait for them; returns the exit status."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--help"]:
        print(__doc__)
    try:
        torchrun(arguments)
    except SignalException as signal:
        return 128 + int(signal.sigval)
    except ChildFailedError as error:
        statuses = {failure.exitcode for failure in error.failures.values()}
        known = [status for status in (143, WRONG_RECIPE, UNUSABLE_DATA) if status in statuses]
        print(error, file=sys.stderr)
        return known[0] if known else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
