"""What Spark says is wrong with a query is one line; what goes wrong elsewhere is raised as it is."""

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
import pytest
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from headrace.dataset.spark_errors import query_errors
from headrace.errors import DataError

# pyspark has a class for some of these, for some only a Java exception; some are found when Spark plans the query.
WRONG = {
    "SELECT t RLIKE '[' FROM texts": "PatternSyntaxException: Unclosed character class",
    "SELECT t FROM texts WHERE split(t, '(')[0] = 'a'": "PatternSyntaxException: Unclosed group",
    "SELECT map('a', 1, 'a', 2)": "[DUPLICATED_MAP_KEY]",
    "SELECT map('a', 1, t, 2, 'a', 3) FROM texts": "[DUPLICATED_MAP_KEY]",
    "SELECT sequence(1, 10, -1)": "Illegal sequence boundaries: 1 to 10 by -1",
    "SELECT sequence(id, 10, -1) FROM texts": " to 10 by -1",
    "SELECT format_string('%d', 'a')": "d != org.apache.spark.unsafe.types.UTF8String",
    "SELECT to_date(t, 'bad fmt') FROM texts": "pattern",
    "SELECT (SELECT id FROM texts) FROM texts": "[SCALAR_SUBQUERY_TOO_MANY_ROWS]",
    "SELECT raise_error('mine') FROM texts": "[USER_RAISED_EXCEPTION] mine",
    "SELECT xpath(t, '[') FROM texts": "Invalid XPath",
    "SELECT decode(unhex(t), 'nope') FROM texts": "charset",
}


@contextmanager
def texts(spark: SparkSession) -> Iterator[None]:
    spark.range(2).selectExpr("id", "cast(id AS string) AS t").createOrReplaceTempView("texts")
    yield
    spark.catalog.dropTempView("texts")


@pytest.mark.parametrize("query", WRONG)
def test_a_wrong_query_is_one_line(spark: SparkSession, query: str) -> None:
    with texts(spark), pytest.raises(DataError) as caught, query_errors():
        spark.sql(query).collect()
    assert str(caught.value).startswith("dataset.query: ")
    assert WRONG[query] in str(caught.value)
    assert "\n" not in str(caught.value)


def test_another_fault_is_raised_as_it_is(spark: SparkSession) -> None:
    def broken(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        raise ZeroDivisionError
        yield from batches

    with pytest.raises(PySparkException, match="ZeroDivisionError"), query_errors():
        spark.range(1).mapInArrow(broken, "id bigint").collect()
    with pytest.raises(Py4JJavaError, match="FileNotFoundException"), query_errors():
        spark.sparkContext._jvm.java.io.FileInputStream("/no/such/file")
