"""How calls are chosen, fail, repeat and are folded."""

import inspect

import pytest
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import functions as F

from headrace import udfs
from headrace.udfs.ledger import failures
from headrace.udfs.registration import bridge


@pytest.fixture(scope="module")
def fns(spark, acme_jar):
    return udfs.register(spark, "acme.Calls", jar=acme_jar, prefix="c_")


def one(spark, expression):
    """The value of an expression over a row that the optimizer does not know to be constant."""
    frame = spark.range(1).selectExpr("id", "CAST(id AS INT) AS zero", "CAST(id AS STRING) AS text")
    return frame.selectExpr(expression).first()[0]


CHOICES = {
    "c_kind(zero)": "int",
    "c_kind(CAST(zero AS TINYINT))": "int",
    "c_kind(id)": "long",
    "c_kind(CAST(zero AS FLOAT))": "double",
    "c_kind(1.5)": "double",
    "c_kind(text)": "string",
    "c_kind(text, zero)": "string, int",
    "c_kind(array(text))": "list",
    "c_join('-')": "",
    "c_join('-', text)": "0",
    "c_join('-', text, 'b', text)": "0-b-0",
    "c_join('-', array(text, 'b'))": "0-b",
    "c_join('-', text, CAST(NULL AS STRING))": None,
    "c_sum(zero, 1, 2)": 3,
    "c_sum(array(zero, 5))": 5,
    "c_first_of(zero + 7)": 7,
    "c_first_of(zero + 7, 1)": 700,
    "c_present(text, NULL, 'a')": "101",
    "c_twice(zero + 2)": 4,
}


def test_overloads_and_varargs_go_by_number_and_type(spark, fns, acme_jar, mode):
    udfs.register(spark, "acme.Calls$Nested", jar=acme_jar, prefix="c_")
    assert {call: one(spark, call) for call in CHOICES} == CHOICES


def test_a_call_that_fits_no_overload_says_what_there_is(spark, fns):
    with pytest.raises(AnalysisException, match=r"c_kind\(date\): no function takes these.*c_kind\(x bigint\)"):
        spark.sql("SELECT c_kind(current_date())")
    with pytest.raises(AnalysisException, match=r"c_kind\(void\) is ambiguous"):
        spark.sql("SELECT c_kind(NULL)")
    with pytest.raises(AnalysisException, match=r"c_pick\(string\): no function takes"):
        spark.sql("SELECT c_pick('a')")


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("checked", "java.io.IOException: disk is full"),
        ("unchecked", "java.lang.IllegalStateException: no luck"),
        ("null", "null where String is declared; declare Optional<String>"),
        ("stack", "java.lang.StackOverflowError"),
    ],
)
def test_an_exception_ends_the_query_and_names_the_call(spark, fns, mode, how, cause):
    with pytest.raises(PySparkException) as error:
        one(spark, f"c_failing(IF(id = 0, '{how}', 'x'))")
    assert f"c_failing('{how}') failed in acme.Calls.failing" in str(error.value)
    assert cause in str(error.value)


def test_arguments_in_an_error_are_shortened_to_200_characters(spark, fns):
    udfs.register(spark, "acme.Calls", prefix="c_")
    with pytest.raises(PySparkException) as error:
        one(spark, "c_fails_long(repeat(text, 5000))")
    shown = str(error.value).split("c_fails_long(")[1].split(") failed in")[0]
    assert shown.startswith("'000")
    assert len(shown) == 200


def test_exceptions_can_be_absent_and_counted(spark, acme_jar, mode):
    udfs.register(spark, "acme.Calls", jar=acme_jar, prefix=f"a_{mode}_", on_error="absent")
    frame = spark.range(0, 100, 1, 4).selectExpr(
        f"a_{mode}_failing(IF(id % 10 = 0, 'checked', 'x')) AS a",
        f"a_{mode}_null_inside(CAST(id AS INT)) AS b",
        f"a_{mode}_failing(IF(id % 20 = 0, 'stack', 'y')) AS c",
    )
    rows = frame.collect()
    assert [sum(row[i] is None for row in rows) for i in range(3)] == [10, 100, 5]
    assert failures(spark)[f"a_{mode}_failing"] == 15
    assert failures(spark)[f"a_{mode}_null_inside"] == 100


def test_only_what_is_marked_is_non_deterministic(spark, fns, mode):
    def plan(expression):
        frame = spark.range(3).selectExpr(f"{expression} AS x")
        return frame._jdf.queryExecution().optimizedPlan().toString()

    assert "c_plain" not in plan("c_plain(41)")
    assert "42 AS x" in plan("c_plain(41)")
    assert "c_next(1)" in plan("c_next(1)")
    distinct = spark.range(50).selectExpr("c_next(1) AS x").distinct().count()
    assert distinct == 50
    assert spark.range(50).selectExpr("c_counted(1) AS x").distinct().count() == 1


def test_python_functions_have_signatures_and_docs(spark, fns):
    assert str(inspect.signature(fns.pick)) == "(alt_text: string?, fall_back: string) -> string?"
    assert inspect.getdoc(fns.pick) == "A function of two arguments."
    assert str(inspect.signature(fns.join)) == "(separator: string, *words: string) -> string"
    assert "kind(x: int) -> string" in fns.kind.__doc__
    assert {"pick", "join", "kind", "first_of"} <= set(dir(fns))
    assert "pick" in repr(fns)


def test_python_functions_take_columns_names_literals_and_keywords(spark, fns):
    frame = spark.createDataFrame([("", "b"), (None, ""), ("a", "b")], "alt string, other string")
    by_place = frame.select(fns.pick("alt", F.col("other")).alias("x"))
    assert [row.x for row in by_place.collect()] == ["b", None, "a"]
    by_name = frame.select(fns.pick(fall_back="other", alt_text="alt").alias("x"))
    assert [row.x for row in by_name.collect()] == ["b", None, "a"]
    as_in_java = frame.select(fns.pick(fallBack=F.lit("z"), altText="alt").alias("x"))
    assert [row.x for row in as_in_java.collect()] == ["z", "z", "a"]
    assert frame.select(fns.sum(1, 2).alias("x")).first().x == 3
    with pytest.raises(TypeError, match="no overload takes 0 arguments and 'nothing'"):
        fns.pick(nothing=1)


def test_java_code_registers_and_calls_with_no_python(spark, fns):
    assert bridge(spark, "acme.FromJava").joined(spark._jsparkSession) == "7-b"
