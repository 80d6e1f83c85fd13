"""How many rows an Arrow batch and a shuffle of counts get, without running a build."""

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from headrace.dataset.query.plan import enough_partitions
from headrace.dataset.session import conf
from headrace.dataset.survey import Survey
from headrace.dataset.write import shuffle
from headrace.dataset.write.job import ARROW_BATCH_BYTES, ARROW_BATCH_ROWS, batches_of_rows

ROWS, BYTES = (f"spark.sql.execution.arrow.{name}" for name in ("maxRecordsPerBatch", "maxBytesPerBatch"))


@pytest.mark.parametrize(
    ("size", "rows"),
    [
        (ARROW_BATCH_BYTES // 100, 100),
        (10, ARROW_BATCH_ROWS),  # tiny images
        (3 * ARROW_BATCH_BYTES, 1),  # each larger than a batch
        (0, ARROW_BATCH_ROWS),
    ],
)
def test_batches_of_rows(size: int, rows: int) -> None:
    found = batches_of_rows(Survey(rows=50, named_rows=50, samples=600, media_bytes=50 * size))
    assert int(found[ROWS]) == rows


def test_spark_takes_the_settings(spark: SparkSession) -> None:
    before = spark.conf.get(BYTES)
    with conf(spark, batches_of_rows(Survey(rows=1, named_rows=1, samples=1, media_bytes=1000))):
        frame = spark.range(3).mapInArrow(lambda batches: batches, "id bigint")
        assert sorted(row.id for row in frame.collect()) == [0, 1, 2]
        assert spark.conf.get(BYTES) != before
    assert spark.conf.get(BYTES) == before


def test_few_counts_are_shuffled_to_few_partitions(spark: SparkSession) -> None:
    least = spark.sparkContext.defaultParallelism
    with conf(spark, {"spark.sql.shuffle.partitions": "200"}):
        assert enough_partitions(spark.range(100)) == least
        assert enough_partitions(spark.range(1 << 30)) == 65  # 8 bytes each, 128 MiB a partition
    with conf(spark, {"spark.sql.shuffle.partitions": "5"}):
        assert enough_partitions(spark.range(1 << 30)) == 5


def test_conf_puts_back_what_was_not_set(spark: SparkSession) -> None:
    with conf(spark, {"headrace.made.up": "1"}):
        assert spark.conf.get("headrace.made.up") == "1"
    assert spark.conf.get("headrace.made.up", None) is None


@pytest.mark.parametrize("shards", [1, 2, 7, 300])
def test_each_shard_is_a_partition_of_its_own(spark: SparkSession, shards: int) -> None:
    """By Spark's own hash of the key, which is the inverse of that hash."""
    shard = F.pmod("id", F.lit(shards)).cast("int")
    key = shuffle._key_of(shard, shards)
    found = spark.range(3 * shards).select(shard.alias("shard"), F.pmod(F.hash(key), F.lit(shards)).alias("partition"))
    assert found.where("shard <> partition").isEmpty()
    assert found.select("partition").distinct().count() == shards
