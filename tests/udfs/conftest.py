"""Test functions in Java, compiled once, and how tests call them with and without generated code."""

import pytest


@pytest.fixture(params=["compiled", "interpreted"])
def mode(request, spark):
    """Spark compiles expressions to Java or, if that fails, evaluates their tree."""
    if request.param == "compiled":
        yield request.param
        return
    spark.conf.set("spark.sql.codegen.wholeStage", "false")
    spark.conf.set("spark.sql.codegen.factoryMode", "NO_CODEGEN")
    yield request.param
    spark.conf.unset("spark.sql.codegen.wholeStage")
    spark.conf.unset("spark.sql.codegen.factoryMode")
