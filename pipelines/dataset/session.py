"""The Spark session of every job and test."""

import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkRuntimeError
from pyspark.sql import SparkSession

from headrace.errors import RecipeError

# Recipes may override these. Settings that a running JVM has fixed stay as they are.
DEFAULTS = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.memory": "2g",
    "spark.sql.session.timeZone": "UTC",
    # As in Hive, an index out of range, a failing cast and a division by zero give null.
    "spark.sql.ansi.enabled": "false",
}

# The first two numbers of the versions that the tests run with.
OLDEST, NEWEST = (4, 0), (4, 3)


def spark_session(app: str, settings: Mapping[str, str] | None = None) -> SparkSession:
    """The running session, or a new one with Hive support and `settings`. Options of spark-submit override `settings`.

    Raises RecipeError if there is no Java, if the session cannot start, or if its Spark is too old.
    """
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        raise RecipeError("java: found none on PATH and no JAVA_HOME, expected a JDK 17 or 21: openjdk-17-jdk-headless")
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    # This logger prints errors to stderr that are raised as exceptions anyway.
    logging.getLogger("SQLQueryContextLogger").setLevel(logging.CRITICAL + 1)
    builder = SparkSession.builder.appName(app).enableHiveSupport()
    for key, value in {**DEFAULTS, **(settings or {}), **_submitted()}.items():
        builder = builder.config(key, value)
    try:
        spark = builder.getOrCreate()
    except PySparkRuntimeError as error:
        raise RecipeError(f"spark: found {_first_line(error)}, expected a session; check `spark:` and Java") from None
    spark.sparkContext.setLogLevel("ERROR")
    check_version(spark.version)
    return spark


def check_version(version: str) -> None:
    """Raise RecipeError for a Spark older than 4.0, and say on stderr that one newer than 4.3 is untested."""
    known = ".".join(map(str, OLDEST)), ".".join(map(str, NEWEST))
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    if numbers < OLDEST:
        raise RecipeError(f"spark: found Spark {version}, expected {known[0]} to {known[1]}")
    if numbers > NEWEST:
        print(f"headrace: Spark {version} is newer than the tested versions, {known[0]} to {known[1]}", file=sys.stderr)


@contextmanager
def conf(spark: SparkSession, settings: Mapping[str, str]) -> Iterator[None]:
    """Set `settings` in the session, and restore the previous values afterwards."""
    before = {name: spark.conf.get(name, None) for name in settings}
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, old)


def _submitted() -> dict[str, str]:
    """The options given to spark-submit, if it started this process."""
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        return {}
    SparkContext._ensure_initialized()  # without this, SparkConf does not see the JVM that spark-submit started
    return dict(SparkConf().getAll())


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
