"""Opening a build's source."""

import json
from dataclasses import dataclass
from functools import reduce
from urllib.parse import unquote

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from headrace.dataset.files import absolute
from headrace.dataset.source.folders import open_images, open_webdataset
from headrace.errors import DataError, RecipeError
from headrace.recipe.dataset import Source

FOLDERS = {"images": open_images, "webdataset": open_webdataset}
# Features of a Delta table without which its Parquet files are not its rows.
_UNREADABLE = frozenset({"deletionVectors", "columnMapping"})
_AVRO = "AVRO_DATA_SOURCE_NOT_ENABLED"
# What Spark says of files that it cannot read, whatever the query.
_OF_THE_SOURCE = ("FAILED_READ_FILE", "CANNOT_READ_FILE_FOOTER")


@dataclass(frozen=True)
class Opened:
    """A source as a frame, and what the log of the dataset is to say of it: a table or a path, a format, a version."""

    frame: DataFrame
    described: dict[str, str | int]


def open_source(spark: SparkSession, source: Source) -> Opened:
    """Open `source`. Raises RecipeError if there is no such table, no such files, or no reader for their format."""
    if source.table is not None:
        try:
            return Opened(spark.table(source.table), {"table": source.table})
        except AnalysisException as error:
            raise RecipeError(f"dataset.source.table: found {source.table!r}: {sql_problem(error)}") from None
    path = str(source.path)
    described: dict[str, str | int] = {"path": absolute(path), "format": source.format}
    if source.format == "delta":
        table = _delta_table(path)
        return Opened(_open_delta(spark, table, absolute(path)), {**described, "version": table.version()})
    try:
        if source.format in FOLDERS:
            return Opened(FOLDERS[source.format](spark, path), described)
        return Opened(spark.read.format(source.format).load(path), described)
    except PySparkException as error:
        if error.getCondition() == _AVRO:
            raise _no_avro(spark) from None
        raise RecipeError(f"dataset.source.path: found {path!r}: {sql_problem(error)}") from None
    except Py4JJavaError as error:  # of a file, as Spark looks for the schema; of a class that the scheme needs
        message = error.java_exception.getMessage()
        kind = DataError if "FAILED_READ_FILE" in message else RecipeError
        raise kind(f"dataset.source.path: found {path!r}: {first_line(message)}") from None


def _no_avro(spark: SparkSession) -> RecipeError:
    scala = spark._jvm.scala.util.Properties.versionNumberString().rpartition(".")[0]  # type: ignore[union-attr]
    package = f"org.apache.spark:spark-avro_{scala}:{spark.version}"
    return RecipeError(
        f"dataset.source.format: found avro, for which this Spark lacks its module, expected `spark: "
        f"{{spark.jars.packages: {package}}}`, or `source: {{table: …}}` of a Hive table STORED AS AVRO"
    )


def _delta_table(path: str) -> DeltaTable:
    try:
        table = DeltaTable(path)
    except (DeltaError, OSError):
        raise RecipeError(f"dataset.source.path: found {path!r}, expected a Delta table") from None
    found = _UNREADABLE & set(table.protocol().reader_features or ())
    if table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none":
        found |= {"columnMapping"}
    if found:
        raise RecipeError(
            f"dataset.source.path: found Delta features {', '.join(sorted(found))} in {path!r}, expected plain Parquet "
            "files; rewrite the table without them"
        )
    return table


def _open_delta(spark: SparkSession, table: DeltaTable, root: str) -> DataFrame:
    """The rows of this version, by Spark's Parquet reader: a union over the partitions, whose values the log holds."""
    schema = StructType.fromJson(json.loads(table.schema().to_json()))
    by = table.metadata().partition_columns
    stored = StructType([field for field in schema.fields if field.name not in by])
    groups: dict[tuple[object, ...], list[str]] = {}
    for action in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        path = unquote(action["path"])
        values = tuple(action[f"partition.{name}"] for name in by)
        groups.setdefault(values, []).append(path if path.startswith("/") or "://" in path else f"{root}/{path}")
    parts = []
    for values, paths in groups.items():
        columns = {name: F.lit(value).cast(schema[name].dataType) for name, value in zip(by, values, strict=True)}
        parts.append(spark.read.schema(stored).parquet(*paths).withColumns(columns).select(*schema.names))
    return reduce(DataFrame.union, parts) if parts else spark.createDataFrame([], schema)


def sql_problem(error: PySparkException) -> str:
    """Spark's complaint as one line, without the plan it dumps."""
    return first_line(str(error))


def first_line(message: str) -> str:
    """The first line of a message of Spark's, without the state that SQL gives it."""
    first = message.strip().split("\n", 1)[0].split(" SQLSTATE:", 1)[0]
    return first.strip().rstrip(";.")


def run_problem(error: PySparkException) -> DataError:
    """What Spark found wrong as it ran a query: with the source's files, or with the query itself."""
    of_source = str(error.getCondition()).startswith(_OF_THE_SOURCE)
    return DataError(f"dataset.{'source' if of_source else 'query'}: {sql_problem(error)}")


def check_query(spark: SparkSession, query: str) -> None:
    """Raise RecipeError if `query` is anything but one query: a recipe changes no tables."""
    try:
        spark._jsparkSession.sessionState().sqlParser().parseQuery(query)
    except PySparkException as error:
        raise RecipeError(f"dataset.query: {sql_problem(error)}; expected one SELECT") from None


def check_key(source: DataFrame, key: str) -> None:
    """Raise RecipeError if the source has no column `key`."""
    if key not in source.columns:
        raise RecipeError(
            f"dataset.shuffle.key: found no column {key!r} in the source, expected one of {', '.join(source.columns)}"
        )
