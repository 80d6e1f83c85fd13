"""Register the methods of Java classes as SQL functions of a running session, through py4j."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from headrace.errors import RecipeError
from headrace.files import local_path
from headrace.udfs.namespace import Namespace

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

REGISTRY = "headrace.bridge.Registry"


def register(
    spark: SparkSession,
    class_name: str,
    jar: str | Path | None = None,
    prefix: str = "",
    on_error: Literal["fail", "absent"] = "fail",
) -> Namespace:
    """Register each public static method of a Java class as an SQL function, and return them as Python functions.

    The method `bestCaption` becomes the SQL function `best_caption`, with `prefix` before its name, and the Python
    function `namespace.best_caption(column, …)`. `jar` is the file that contains the class, unless the session has it
    already. With `on_error="absent"`, a call that throws an exception returns null and is counted (see
    `headrace.udfs.ledger`); with `"fail"` it ends the query.

    Raises RecipeError if no jar contains the class, or if a method cannot become a function; the message names class,
    method, parameter and type.
    """
    if on_error not in ("fail", "absent"):
        raise RecipeError(f"on_error: {on_error!r}, expected 'fail' or 'absent'")
    if jar is not None:
        add_jar(spark, jar)
    try:
        functions = bridge(spark, REGISTRY).register(_jvm_session(spark), class_name, prefix, on_error == "fail")
    except Exception as error:
        raise _clear(error) from None
    return Namespace(class_name, prefix, json.loads(functions))


def bridge(spark: SparkSession, class_name: str) -> Any:
    """A new object of one of the bridge's Java classes. Adds the jar to the session if it is not there yet."""
    loader = _jvm_session(spark).sharedState().jarClassLoader()
    try:
        found = loader.loadClass(class_name)
    except Exception as error:
        if "ClassNotFoundException" not in str(error):
            raise
        from headrace.udfs.jar import path

        add_jar(spark, path())
        found = loader.loadClass(class_name)
    gateway: Any = spark.sparkContext._gateway
    nothing = gateway.new_array(gateway.jvm.java.lang.Class, 0)
    return found.getDeclaredConstructor(nothing).newInstance(gateway.new_array(gateway.jvm.java.lang.Object, 0))


def add_jar(spark: SparkSession, jar: str | Path) -> None:
    """Add a jar, at a path or a URI, to the driver and the executors of a running session. Twice is the same as once.

    Raises RecipeError if there is no such file, if Spark cannot read the URI, or if the session has another jar with
    the same file name: Spark ships jars by file name.
    """
    path = local_path(str(jar))
    if path is not None and not path.is_file():
        raise RecipeError(f"jar: found no file {str(jar)!r}, expected a jar")
    uri = str(jar) if path is None else path.resolve().as_uri()
    there = _jars(spark)
    if uri in there:
        return
    name = uri.rpartition("/")[2]
    same_name = [other for other in there if other.rpartition("/")[2] == name]
    if same_name:
        raise RecipeError(f"jar: found {str(jar)!r}, but the session has {same_name[0]}; expected another file name")
    try:
        _jvm_session(spark).sessionState().resourceLoader().addJar(uri)
    except Exception as error:
        java = getattr(error, "java_exception", None)
        why = str(error if java is None else java.getMessage()).strip().splitlines()[0]
        raise RecipeError(
            f"jar: found {str(jar)!r}, expected a jar at a path or a URI that Spark reads: {why}"
        ) from None


def _jars(spark: SparkSession) -> list[str]:
    """The jars of the session, those from its start and those added later, as URIs."""
    from_start = [jar for jar in spark.sparkContext.getConf().get("spark.jars", "").split(",") if jar]
    since = _jvm_session(spark).sharedState().jarClassLoader().getURLs()
    uris = [jar if ":/" in jar else Path(jar).resolve().as_uri() for jar in from_start]
    return uris + [str(url.toURI().toString()).replace("file:/", "file:///", 1) for url in since]


def _jvm_session(spark: SparkSession) -> Any:
    session = getattr(spark, "_jsparkSession", None)
    if session is None:
        raise RecipeError("spark: found a Spark Connect session, expected one whose driver JVM is reachable (py4j)")
    return session


def _clear(error: Exception) -> Exception:
    """A RecipeError for what the bridge refuses, in one line; any other error unchanged."""
    java = getattr(error, "java_exception", None)
    if java is not None and java.getClass().getName() == "java.lang.IllegalArgumentException":
        return RecipeError(str(java.getMessage()))
    message = str(getattr(error, "_desc", "") or "")
    if type(error).__name__ == "IllegalArgumentException" and message:
        return RecipeError(message)
    return error
