"""Errors that you can fix yourself. Each ends a job with its own exit status and one line on stderr."""


class RecipeError(ValueError):
    """A recipe or an argument is wrong (exit status 2). The message is one line: key, found, expected."""


class DataError(ValueError):
    """The input data is unusable (exit status 3). The message is one line: file or column, found, expected."""


class Unavailable(DataError):
    """The data may be sound, but the machine or the network cannot deliver it now (exit status 3).

    It is never counted as bad data. The message is one line.
    """


class Diverged(RuntimeError):
    """Too many steps in a row had non-finite figures or gradients (exit status 1). The message is one line."""
