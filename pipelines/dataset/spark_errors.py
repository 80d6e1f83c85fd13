"""Spark's exceptions as the errors of this project: one line, without the plan that Spark prints."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from py4j.java_gateway import is_instance_of
from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.errors.exceptions.captured import CapturedException, PythonException, UnknownException

from headrace.errors import DataError

# A DataError that a Python worker raised, in the traceback that Spark passes on.
_RAISED_BY_WORKER = re.compile(r"^headrace\.errors\.DataError: (.*)$", re.MULTILINE)
# Conditions that say a file of the source cannot be read, whatever the query does.
_SOURCE_CONDITIONS = ("FAILED_READ_FILE", "CANNOT_READ_FILE_FOOTER")
# The condition at the start of a message of an exception that pyspark has no class for.
_CONDITION = re.compile(r"\[(?P<condition>[A-Z_]+)[A-Z_.]*\] ")
# What a function throws at arguments that it does not take, where Spark has no condition for that.
_OF_FUNCTIONS = "java.lang.RuntimeException"


SPARK_ERRORS = (PySparkException, Py4JJavaError)
"""what Spark raises"""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a query, or with a file of the source, as one line."""

    text: str
    of_source: bool


def problem(error: Exception) -> Problem | None:
    """What Spark says is wrong with the query or the source; None if the error is another's fault.

    Others are our own code on the workers, and the machines: a lost executor, a full disk, no memory.
    """
    if isinstance(error, CapturedException) and not isinstance(error, PythonException | UnknownException):
        return Problem(first_line(str(error)), str(error.getCondition()).startswith(_SOURCE_CONDITIONS))
    if not isinstance(error, Py4JJavaError):
        return None
    for thrown in _chain(error.java_exception):
        message = str(thrown.getMessage() or "")
        if found := _CONDITION.match(message):
            return Problem(first_line(message), found["condition"].startswith(_SOURCE_CONDITIONS))
        if is_instance_of(SparkContext._gateway, thrown, _OF_FUNCTIONS):
            name = str(thrown.getClass().getSimpleName())
            return Problem(f"{name}: {first_line(message)}" if message else name, of_source=False)
    return None


def sql_problem(error: Exception) -> str:
    """Spark's complaint about a query or a source, as one line. Raises `error` itself if it is another's fault."""
    found = problem(error)
    if found is None:
        raise error
    return found.text


def _chain(thrown: Any) -> Iterator[Any]:
    """A Java exception, its cause, the cause of that, and so on."""
    while thrown is not None:
        yield thrown
        thrown = thrown.getCause()


def first_line(message: str) -> str:
    """The first line of a Spark message, without its SQLSTATE."""
    first = message.strip().split("\n", 1)[0].split(" SQLSTATE:", 1)[0]
    return first.strip().rstrip(";.")


@contextmanager
def query_errors() -> Iterator[None]:
    """Turn errors that Spark finds while it runs a query into DataError.

    A DataError that a worker raised comes back as it was. Exceptions of the write stage's own Python code pass through.
    """
    try:
        yield
    except SPARK_ERRORS as error:
        if raised := _RAISED_BY_WORKER.search(str(error)):
            raise DataError(raised[1]) from None
        found = problem(error)
        if found is None:
            raise
        raise DataError(f"dataset.{'source' if found.of_source else 'query'}: {found.text}") from None
