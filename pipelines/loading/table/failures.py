"""What a failed read says: that a file is bad, or only that the machine or the network cannot deliver it now."""

from __future__ import annotations

import errno
import os

from headrace.errors import DataError, Unavailable

_OF_THE_FILE = frozenset(
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENXIO, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL, errno.EIO}
)
"""missing, not a file, empty (it cannot be mapped), or on a damaged disk; all other numbers tell of the machine"""
_OPEN_FILES = frozenset({errno.EMFILE, errno.ENFILE})


def says_nothing_of_the_data(error: BaseException) -> bool:
    """Whether `error` comes from a lack of memory, open files, permission or connection.

    pyarrow reports damaged files by errors of its own or by an OSError without a number.
    """
    if isinstance(error, (MemoryError, ConnectionError, TimeoutError)):
        return True
    return isinstance(error, OSError) and error.errno is not None and error.errno not in _OF_THE_FILE


def read_error(path: str, error: BaseException) -> DataError:
    """The error, in one line, for a file at `path` that could not be read: Unavailable, or DataError if it is bad."""
    line = " ".join(str(error).split()) or type(error).__name__
    if not says_nothing_of_the_data(error):
        return DataError(f"{path}: cannot read: {line}")
    if isinstance(error, MemoryError):
        line = f"found too little memory ({line})"
    if isinstance(error, OSError) and error.errno in _OPEN_FILES:
        line = f"found {os.strerror(error.errno or 0).lower()}, expected fewer lanes × window or a higher `ulimit -n`"
    return Unavailable(f"{path}: cannot read now: {line}")
