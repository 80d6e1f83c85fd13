"""How every job starts and ends: an error that you can fix is one line and an exit status."""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from headrace.errors import DataError, Diverged, RecipeError
from headrace.jobs.arguments import Parser

DONE, FAILED, WRONG_RECIPE, UNUSABLE_DATA, INTERRUPTED = 0, 1, 2, 3, 130
STATUSES: dict[type[Exception], int] = {Diverged: FAILED, RecipeError: WRONG_RECIPE, DataError: UNUSABLE_DATA}
OF_THE_DISK = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST}
"""what a system refuses when a file cannot be written: no rights, no room, or something else in its place"""


def run_job(job: Callable[[argparse.Namespace], None], parser: Parser, argv: Sequence[str] | None) -> int:
    """Run `job` on the arguments that `parser` finds in `argv` (None: those of the process); returns the exit status.

    --help prints and ends with 0, and the job does not run.
    """
    # Python puts the folder of a script first on the path, and jobs/emoji.py would hide the package emoji.
    sys.path[:] = [
        folder for folder in sys.path if not folder or Path(folder).resolve() != Path(__file__).parent.resolve()
    ]

    def work() -> None:
        try:
            arguments = parser.parse(sys.argv[1:] if argv is None else argv)
        except SystemExit:  # --help has been printed
            return
        job(arguments)

    return exit_status(work)


def exit_status(work: Callable[[], None]) -> int:
    """Run `work` and return the exit status: 0 done, 2 wrong recipe, 3 unusable data, 130 Ctrl-C.

    A run that diverged and a file that cannot be written are one line and 1. Any other exception is raised, so that
    Python ends with a traceback and status 1.
    """
    try:
        work()
        if sys.stdout is not None:  # closed before Python started
            sys.stdout.flush()
    except tuple(STATUSES) as error:
        print(f"headrace: {error}", file=sys.stderr)
        return STATUSES[type(error)]
    except BrokenPipeError:  # the reader of our output, say `head`, has closed the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.errno not in OF_THE_DISK or error.filename is None:
            raise
        print(f"headrace: {error.filename}: found {error.strerror}, expected a place to write to", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("headrace: interrupted", file=sys.stderr)
        return INTERRUPTED
    return DONE
