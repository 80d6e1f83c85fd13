"""The absence ledger of Java functions: how many results are absent, for which cause, with the keys of some rows."""

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
    """What one call of a Java function gave, over all rows of the latest action on the watched frame.

    values: results that are there.
    data: absent because an argument was null that must not be, or all arguments from the data were.
    algorithm: absent because the function, given its arguments, returned empty.
    failure: absent because the function threw an exception (registered with on_error="absent").
    examples: for each of the three names above, the keys of up to 10 rows.
    """

    column: str
    function: str
    values: int
    data: int
    algorithm: int
    failure: int
    examples: dict[str, list[str]]


class Ledger:
    """Counts the calls of Java functions in the SELECT lists of frames, in the pass of whatever action runs them.

    A task that is retried or runs twice counts once. Only calls in a SELECT make an output column; calls in WHERE, in
    join conditions and under explode are not counted.
    """

    def __init__(self, spark: SparkSession) -> None:
        self._spark = spark
        self._java = bridge(spark, LEDGER).open(spark.sparkContext._jsc.sc())

    def watch(self, frame: DataFrame, key: str | None = None) -> DataFrame:
        """The same rows; every action on the returned frame counts. `key` names the column that examples come from."""
        from pyspark.sql import DataFrame

        return DataFrame(self._java.watch(frame._jdf, key), self._spark)

    def absences(self) -> list[Absence]:
        """One entry for each call, counted over the latest action; a call that no action ran has none."""
        return [Absence(**entry) for entry in json.loads(self._java.counts())]


def failures(spark: SparkSession) -> dict[str, int]:
    """How often each function of on_error="absent" threw an exception, in frames that no ledger watches."""
    return dict(json.loads(bridge(spark, LEDGER).failures(spark._jsparkSession)))
