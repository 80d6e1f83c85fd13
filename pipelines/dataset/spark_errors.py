"""Spark's exceptions as the errors of this project: one line, without the plan that Spark prints."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from headrace.errors import DataError

# A DataError that a Python worker raised, in the traceback that Spark passes on.
_RAISED_BY_WORKER = re.compile(r"^headrace\.errors\.DataError: (.*)$", re.MULTILINE)
# Conditions that say a file of the source cannot be read, whatever the query does.
_SOURCE_CONDITIONS = ("FAILED_READ_FILE", "CANNOT_READ_FILE_FOOTER")
# The condition at the start of a message of an exception that pyspark has no class for.
_CONDITION = re.compile(r"\[(?P<condition>[A-Z_]+)[A-Z_.]*\] ")


def first_line(message: str) -> str:
    """The first line of a Spark message, without its SQLSTATE."""
    first = message.strip().split("\n", 1)[0].split(" SQLSTATE:", 1)[0]
    return first.strip().rstrip(";.")


def sql_problem(error: PySparkException) -> str:
    """Spark's complaint as one line."""
    return first_line(str(error))


@contextmanager
def query_errors() -> Iterator[None]:
    """Turn errors that Spark finds while it runs a query into DataError.

    A DataError that a worker raised comes back as it was. Exceptions of the write stage's own Python code pass through.
    """
    try:
        yield
    except PySparkException as error:
        if raised := _RAISED_BY_WORKER.search(str(error)):
            raise DataError(raised[1]) from None
        if error.getCondition() in {None, "PYTHON_EXCEPTION"}:
            raise
        of_source = str(error.getCondition()).startswith(_SOURCE_CONDITIONS)
        raise DataError(f"dataset.{'source' if of_source else 'query'}: {sql_problem(error)}") from None
    except Py4JJavaError as error:
        message = str(error.java_exception.getMessage())
        if (found := _CONDITION.match(message)) is None or found["condition"] not in _SOURCE_CONDITIONS:
            raise
        raise DataError(f"dataset.source: {first_line(message)}") from None
