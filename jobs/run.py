"""How every job starts and ends: errors that a user can mend are one line and an exit status."""

import inspect
import os
import sys
from collections.abc import Callable, Sequence

from headrace.errors import DataError, Diverged, RecipeError

DONE, FAILED, WRONG_RECIPE, UNUSABLE_DATA, INTERRUPTED = 0, 1, 2, 3, 130
STATUSES: dict[type[Exception], int] = {Diverged: FAILED, RecipeError: WRONG_RECIPE, DataError: UNUSABLE_DATA}


def exit_status(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Run `main(argv)` and return the exit status: 0 done, 1 a run that diverged, 2 wrong recipe or argument, 3
    unusable data, 130 Ctrl-C.

    Anything else is raised, so that Python ends with a traceback and status 1. Where `argv` asks for help, what the
    job's module says of itself is shown instead.
    """
    if not {"-h", "--help"}.isdisjoint(argv):
        print(inspect.getdoc(inspect.getmodule(main)))
        return DONE
    try:
        main(argv)
        sys.stdout.flush()
    except tuple(STATUSES) as error:
        print(f"headrace: {error}", file=sys.stderr)
        return STATUSES[type(error)]
    except BrokenPipeError:  # whoever read our output, say `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print("headrace: interrupted", file=sys.stderr)
        return INTERRUPTED
    return DONE
