"""The absence ledger of Java functions: how many results are absent, for which cause, and the keys of some rows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.udfs.registration import bridge

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

LEDGER = "headrace.bridge.Ledger"


@dataclass(frozen=True)
class Absence:
    """The results of one call of a Java function, counted over all rows of the latest action on the observed frame.

    column: the output column that the call is part of.
    function: the SQL name of the function.
    values: how many results are present.
    data: how many are absent because a required argument was null, or all arguments that come from the data were.
    algorithm: how many are absent because the function received its arguments and returned empty.
    failure: how many are absent because the function threw an exception (registered with on_error="absent").
    examples: for `data`, `algorithm` and `failure`, the keys of up to 10 rows.
    """

    column: str
    function: str
    values: int
    data: int
    algorithm: int
    failure: int
    examples: dict[str, list[str]]


class Ledger:
    """Counts the results of Java functions in the SELECT lists of frames, as part of any action that runs them.

    A task that is retried or runs twice counts once. Calls in WHERE, in join conditions and under explode are not
    counted, because they make no output column.
    """

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._java = bridge(spark, LEDGER).open(spark.sparkContext._jsc.sc())

    def observe(self, frame: DataFrame, key: str | None = None) -> DataFrame:
        """The same rows as `frame`; every action on the result counts. `key` is the column that examples come from."""
        from pyspark.sql import DataFrame

        return DataFrame(self._java.observe(frame._jdf, key), self._spark)

    def absences(self) -> list[Absence]:
        """One entry for each call, counted over the latest action. A call that no action has run has no entry."""
        return [Absence(**entry) for entry in json.loads(self._java.counts())]


def failures(spark: SparkSession) -> dict[str, int]:
    """How often each function with on_error="absent" threw an exception, in frames that no ledger observes."""
    return dict(json.loads(bridge(spark, LEDGER).failures(spark._jsparkSession)))
