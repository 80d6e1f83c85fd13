"""Opening a build's source: a table of the catalog, files that Spark reads, a Delta table, or a folder of images."""

import json
from dataclasses import dataclass
from functools import reduce

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from headrace.dataset.query.media import quoted
from headrace.dataset.source.account import BAD_ROW, DROPPED
from headrace.dataset.source.folders import open_images, open_webdataset
from headrace.dataset.source.imagefolder import open_imagefolder
from headrace.dataset.source.prepare import HIDDEN
from headrace.dataset.spark_errors import SPARK_ERRORS, problem, sql_problem
from headrace.dataset.storage import absolute
from headrace.delta import asked, file_path, is_uri, unknown_features
from headrace.errors import DataError, RecipeError
from headrace.recipe.dataset import Source

FOLDERS = {"images": open_images, "imagefolder": open_imagefolder, "webdataset": open_webdataset}
_AVRO = frozenset({"AVRO_DATA_SOURCE_NOT_ENABLED", "_LEGACY_ERROR_TEMP_1139"})  # the second in Spark 4.0
NO_LINE = BAD_ROW + "line that is not JSON"


@dataclass(frozen=True)
class Opened:
    """A source as a frame, with the column `DROPPED` if it accounts for files.

    `described` is what the dataset's log records about it: `table`, or `path`, `format` and, for Delta, `version`.
    `fingerprint` changes with the files of a source that lists them itself; it is empty where Spark knows the files.
    """

    frame: DataFrame
    described: dict[str, str | int]
    fingerprint: str = ""


def open_source(spark: SparkSession, source: Source) -> Opened:
    """Open `source`.

    Raises RecipeError if the table or the files do not exist or Spark has no reader for the format, and DataError if a
    file that Spark reads for the schema is damaged.
    """
    if source.table is not None:
        try:
            return Opened(_without_hidden(spark.table(source.table)), {"table": source.table})
        except SPARK_ERRORS as error:
            raise RecipeError(f"dataset.source.table: found {source.table!r}: {sql_problem(error)}") from None
    path = str(source.path)
    described: dict[str, str | int] = {"path": absolute(path), "format": source.format}
    if source.format == "delta":
        table = _delta_table(path)
        frame = _without_hidden(_open_delta(spark, table, absolute(path)))
        return Opened(frame, {**described, "version": table.version()})
    try:
        if source.format in FOLDERS:
            frame, fingerprint = FOLDERS[source.format](spark, path)
            return Opened(frame, described, fingerprint)
        frame = _without_hidden(spark.read.format(source.format).load(path))
        return Opened(_with_broken_lines(frame) if source.format == "json" else frame, described)
    except SPARK_ERRORS as error:
        if isinstance(error, PySparkException) and error.getCondition() in _AVRO:
            raise _no_avro(spark) from None
        found = problem(error)
        if found is None:
            raise
        # Spark reads some files for the schema, and may meet a damaged one
        kind = DataError if found.of_source else RecipeError
        raise kind(f"dataset.source.path: found {path!r}: {found.text}") from None


def _without_hidden(frame: DataFrame) -> DataFrame:
    """`frame`; raises RecipeError if a column has the name of one that a build adds to the source and hides."""
    for name in frame.columns:
        if name.lower() in HIDDEN:
            raise RecipeError(
                f"dataset.source: found a column {name!r}, which a build adds itself, expected another name: "
                "rename it in a view"
            )
    return frame


def _with_broken_lines(frame: DataFrame) -> DataFrame:
    """`frame`, whose lines that are not JSON are bad rows. Spark adds a column for them if it finds any."""
    column = str(frame.sparkSession.conf.get("spark.sql.columnNameOfCorruptRecord"))
    if column not in frame.columns:
        return frame
    return frame.withColumn(DROPPED, F.when(F.col(quoted(column)).isNotNull(), NO_LINE))


def _no_avro(spark: SparkSession) -> RecipeError:
    scala = spark._jvm.scala.util.Properties.versionNumberString().rpartition(".")[0]  # type: ignore[union-attr]
    package = f"org.apache.spark:spark-avro_{scala}:{spark.version}"
    return RecipeError(
        f"dataset.source.format: found avro, but this Spark lacks the Avro module, expected `spark: "
        f"{{spark.jars.packages: {package}}}`, or `source: {{table: …}}` of a Hive table STORED AS AVRO"
    )


def _delta_table(path: str) -> DeltaTable:
    try:
        table = DeltaTable(path)
    except (DeltaError, OSError):
        raise RecipeError(f"dataset.source.path: found {path!r}, expected a Delta table") from None
    if found := unknown_features(*asked(table)):
        raise RecipeError(
            f"dataset.source.path: found Delta features {', '.join(found)} in {path!r}, expected plain Parquet files; "
            "rewrite the table without them"
        )
    return table


def _open_delta(spark: SparkSession, table: DeltaTable, root: str) -> DataFrame:
    """The rows of this version, read by Spark's Parquet reader.

    The result is a union over the partitions, because only the log holds the partition values.
    """
    schema = StructType.fromJson(json.loads(table.schema().to_json()))
    by = table.metadata().partition_columns
    stored = StructType([field for field in schema.fields if field.name not in by])
    groups: dict[tuple[object, ...], list[str]] = {}
    for action in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        path = _located(root, action["path"])
        values = tuple(action[f"partition.{name}"] for name in by)
        groups.setdefault(values, []).append(path)
    parts = []
    for values, paths in groups.items():
        columns = {name: F.lit(value).cast(schema[name].dataType) for name, value in zip(by, values, strict=True)}
        parts.append(spark.read.schema(stored).parquet(*paths).withColumns(columns).select(*schema.names))
    return reduce(DataFrame.union, parts) if parts else spark.createDataFrame([], schema)


def _located(root: str, stored: str) -> str:
    """Where the file is that a log stores under the path `stored`."""
    try:
        path = file_path(stored)
    except ValueError as error:
        raise DataError(f"dataset.source.path: {root}: {error}") from None
    return path if path.startswith("/") or is_uri(path) else f"{root}/{path}"
