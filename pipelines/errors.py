"""The errors that a user can mend, and the exit status each one ends a job with."""


class RecipeError(ValueError):
    """A recipe or an argument is wrong (exit status 2). The message is one line: key, found, expected."""


class DataError(ValueError):
    """The input data is unusable (exit status 3). The message is one line: file or column, found, expected."""


class Diverged(RuntimeError):
    """Too many steps in a row had figures that are no finite numbers (exit status 1). The message is one line."""
