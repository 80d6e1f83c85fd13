"""The value of a partition: one rule for the command line, the source's columns and folders, and the log.

The value is text: that of the source's column, cast to a string. Delta stores the empty string as null, so both are
the same partition, null. NAME=VALUE is read as folders `NAME=VALUE` are: VALUE spells a value of the column's type, so
`hour=01` and `hour=1` are the same partition of an integer column; nothing, or Hive's name for it, spells null.
"""

from collections.abc import Collection

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import DataType, DoubleType, FloatType, StringType, TimestampType

from headrace.dataset.query.media import quoted
from headrace.dataset.source.account import DROPPED
from headrace.errors import RecipeError
from headrace.recipe.dataset import Output

Partition = tuple[str, str | None]
"""the name and the value of a partition"""

# Types whose values are not equal exactly if their texts are.
_BY_TEXT = (FloatType, DoubleType, TimestampType)
_SPELLED_NULL = ("", "__HIVE_DEFAULT_PARTITION__")


def check_name(output: Output, partition: Partition | None) -> None:
    """Raise RecipeError unless `partition` is one of the column that the `output` is partitioned by."""
    column = output.partition
    if partition is not None and partition[0] != column:
        expected = f"{column}=VALUE" if column else "a column named by dataset.output.partition, or no partition"
        raise RecipeError(f"dataset.output.partition: found {partition[0]}={partition[1]}, expected {expected}")


def partition_value(column: Column) -> Column:
    """The partition's value for each value of a `column`: text, or null."""
    return F.nullif(column.cast(StringType()), F.lit(""))


def only_partition(frame: DataFrame, partition: Partition) -> DataFrame:
    """The rows of `frame` in `partition`. The condition is one that Spark can use to skip files, where it is exact.

    Equal values may have different texts (0.0 and -0.0), and different values the same (an hour that a clock repeats):
    the text decides. What a source leaves out is in no partition: every build of such a source accounts for all of it.
    """
    name, value = partition
    column, data_type = F.col(quoted(name)), frame.schema[name].dataType
    is_text = isinstance(data_type, StringType)
    if value is None:
        condition = column.isNull() | (column == "") if is_text else column.isNull()
    elif is_text or isinstance(data_type, _BY_TEXT):  # text without the collation that the column may have
        condition = column.cast(StringType()) == value
    else:
        condition = column == F.lit(value).cast(data_type)
    return frame.where(condition | F.col(DROPPED).isNotNull() if DROPPED in frame.columns else condition)


def spelled(spark: SparkSession, texts: Collection[str], data_type: DataType) -> dict[str, str | None]:
    """The partition's value that each of `texts` spells for a column of type `data_type`.

    A text that spells no value of that type is left out.
    """
    others = sorted(set(texts) - set(_SPELLED_NULL))
    frame = spark.createDataFrame([(text,) for text in others], "text string")
    found = frame.select("text", partition_value(F.col("text").try_cast(data_type)).alias("value")).collect()
    values: dict[str, str | None] = {row["text"]: row["value"] for row in found if row["value"] is not None}
    return values | dict.fromkeys(_SPELLED_NULL)


def canonical(frame: DataFrame, partition: Partition, data_type: DataType) -> Partition:
    """`partition` with the value that its text spells for a column of type `data_type`; raises RecipeError if none."""
    name, text = partition
    values = spelled(frame.sparkSession, [text or ""], data_type)
    if (text or "") not in values:
        raise RecipeError(
            f"dataset.output.partition: found {name}={text}, expected a value of type {data_type.simpleString()}"
        )
    return name, values[text or ""]
