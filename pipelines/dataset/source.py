"""Opening a build's source."""

from pyspark.errors import AnalysisException, PySparkException
from pyspark.sql import DataFrame, SparkSession

from pipelines.dataset.folders import open_images, open_webdataset
from pipelines.errors import RecipeError
from pipelines.recipe.dataset import Source

FOLDERS = {"images": open_images, "webdataset": open_webdataset}


def open_source(spark: SparkSession, source: Source) -> DataFrame:
    """The source as a frame. Raises RecipeError if there is no such table or no such files."""
    try:
        if source.table is not None:
            return spark.table(source.table)
        if source.format == "delta":
            return _open_delta(spark, str(source.path))
        if source.format in FOLDERS:
            return FOLDERS[source.format](spark, str(source.path))
        return spark.read.format(source.format).load(source.path)
    except AnalysisException as error:
        key = "table" if source.table is not None else "path"
        found = source.table or source.path
        raise RecipeError(f"dataset.source.{key}: found {found!r}: {sql_problem(error)}") from None


def _open_delta(spark: SparkSession, path: str) -> DataFrame:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        files = DeltaTable(path).file_uris()
    except (DeltaError, TableNotFoundError, OSError):
        raise RecipeError(f"dataset.source.path: found {path!r}, expected a Delta table") from None
    return spark.read.parquet(*files)


def sql_problem(error: PySparkException) -> str:
    """Spark's complaint as one line, without the plan it dumps."""
    first = str(error).strip().split("\n", 1)[0].split(" SQLSTATE:", 1)[0]
    return first.strip().rstrip(";.")


def check_key(source: DataFrame, key: str) -> None:
    """Raise RecipeError if the source has no column `key`."""
    if key not in source.columns:
        raise RecipeError(
            f"dataset.shuffle.key: found no column {key!r} in the source, expected one of {', '.join(source.columns)}"
        )
