"""The names of Java functions: what would call another function is refused, and a namespace calls its own class."""

from pathlib import Path

import pytest
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

import headrace.udfs.jar
from headrace import udfs
from headrace.errors import RecipeError

# Words that Spark's parser takes for something other than the call of a function.
GRAMMAR = ("identifier", "struct", "timestampadd")
METHOD = 'public static String %s(java.util.Optional<String> text) { return "own"; }'


@pytest.fixture(scope="module")
def taken(spark) -> list[str]:
    """The names of Spark's functions, as far as Java can write them, and words of its grammar."""
    names = {row["function"].split(".")[-1] for row in spark.sql("SHOW SYSTEM FUNCTIONS").collect()}
    return sorted(name for name in {*names, *GRAMMAR} if spark._jvm.javax.lang.model.SourceVersion.isName(name))


@pytest.fixture(scope="module")
def names_jar(bridge_jar, taken, tmp_path_factory) -> Path:
    """The class acme.Names with a method for each of the names, and a class inside it for each method alone."""
    source = tmp_path_factory.mktemp("names")
    alone = [f"public static class N{i} {{ {METHOD % name} }}" for i, name in enumerate(taken)]
    body = "\n".join([*alone, *(METHOD % name for name in taken)])
    (source / "Names.java").write_text(f"package acme;\npublic final class Names {{\n{body}\n}}\n")
    (source / "Other.java").write_text(f"package acme;\npublic final class Other {{ {METHOD % 'firstLine'} }}\n")
    (source / "Again.java").write_text(f"package acme;\npublic final class Again {{ {METHOD % 'firstLine'} }}\n")
    return headrace.udfs.jar.build(source, source / "names.jar")


def test_a_name_that_would_call_something_else_is_refused(spark, names_jar, taken):
    assert len(taken) > 400
    for i, name in enumerate(taken):
        with pytest.raises(RecipeError) as refused:
            udfs.register(spark, f"acme.Names$N{i}", jar=names_jar)
        assert f"acme.Names$N{i}.{name} would be {name} in SQL, but that is " in str(refused.value)
        assert str(refused.value).endswith("expected a free name: choose a prefix")


def test_with_a_prefix_every_name_calls_the_method(spark, names_jar, taken):
    own = udfs.register(spark, "acme.Names", jar=names_jar, prefix="own_")
    by_namespace = [getattr(own, name)(F.lit("text")) for name in taken]
    by_sql = [F.expr(f"own_{name}('text')") for name in taken]
    (row,) = spark.range(1).select(F.array_distinct(F.array(*by_namespace, *by_sql)).alias("results")).collect()
    assert row.results == ["own"]


def test_a_name_of_another_class_or_function_is_refused(spark, names_jar):
    first = udfs.register(spark, "acme.Other", jar=names_jar)
    udfs.register(spark, "acme.Other")  # the same class again
    with pytest.raises(
        RecipeError, match=r"Again\.firstLine would be first_line in SQL, but that is acme\.Other\.first_"
    ):
        udfs.register(spark, "acme.Again")
    spark.udf.register("my_first_line", lambda text: "python's", StringType())
    with pytest.raises(RecipeError, match="but that is another function of this session"):
        udfs.register(spark, "acme.Again", prefix="my_")

    spark.udf.register("first_line", lambda text: "python's", StringType())
    frame = spark.range(1).select(first.first_line(F.lit("text")), F.expr("first_line('text')").alias("sql"))
    assert frame.collect() == [("own", "python's")]
    assert frame.columns == ["first_line(text)", "sql"]
