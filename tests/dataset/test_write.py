"""What a sample's id is made from, and how many rows an Arrow batch and a shuffle of counts get, without a build."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from headrace.dataset.query.plan import enough_partitions
from headrace.dataset.session import conf
from headrace.dataset.survey import Survey
from headrace.dataset.write import shuffle
from headrace.dataset.write.job import ARROW_BATCH_BYTES, ARROW_BATCH_ROWS, batches_of_rows
from headrace.dataset.write.sample_hash import sample_hash

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


NESTED = """
    a string, b string, list array<string>, other array<string>, lists array<array<int>>,
    place struct<x: int, y: int>, places array<struct<x: int, y: int>>, words map<string, array<string>>,
    at timestamp, size double
"""
TEXT = st.none() | st.sampled_from(["", "x", "y"])
NUMBER = st.none() | st.integers(0, 2)
TEXTS = st.none() | st.lists(TEXT, max_size=3)
POINT = st.none() | st.tuples(NUMBER, NUMBER)
ROW = st.tuples(
    *(TEXT, TEXT, TEXTS, TEXTS, st.none() | st.lists(st.none() | st.lists(NUMBER, max_size=2), max_size=2)),
    *(POINT, st.none() | st.lists(POINT, max_size=2)),
    st.none() | st.dictionaries(st.sampled_from(["x", "y", "z"]), TEXTS, max_size=3),
    st.none() | st.integers(0, 2).map(lambda days: datetime(2026, 3, 28, 12, tzinfo=UTC) + timedelta(days=days)),
    st.none() | st.sampled_from([0.0, 1.5, float("inf")]),
)


def hashes(spark: SparkSession, rows: list[tuple], schema: str) -> list[int]:
    frame = spark.createDataFrame([(i, *row) for i, row in enumerate(rows)], f"i int, {schema}").coalesce(1)
    fields = frame.schema.fields[1:]
    found = frame.select("i", sample_hash([(F.col(f.name), f.dataType) for f in fields]).alias("hash")).collect()
    return [row["hash"] for row in sorted(found)]


@settings(max_examples=6, deadline=None)
@given(rows=st.lists(ROW, min_size=60, max_size=200, unique_by=repr))
def test_different_rows_have_different_hashes(spark: SparkSession, rows: list[tuple]) -> None:
    found = hashes(spark, rows, NESTED)
    assert len(set(found)) == len(rows)
    odd = {"spark.sql.ansi.enabled": "true", "spark.sql.session.timeZone": "America/New_York"}
    with conf(spark, odd):
        turned = [(*row[:7], row[7] and dict(reversed(row[7].items())), *row[8:]) for row in reversed(rows)]
        assert hashes(spark, turned, NESTED) == found[::-1], "settings, other rows and the order in a map do not matter"


@pytest.mark.parametrize(
    ("schema", "rows"),
    [
        ("a string, b string", [("x", None), (None, "x")]),
        ("a int, b boolean", [(0, None), (None, False), (None, None), (1, None), (None, True)]),
        ("a array<string>", [(["x"],), (["x", None],), ([None, "x"],), ([None],), ([],), (None,)]),
        ("a array<int>, b array<int>", [([1], [2, 3]), ([1, 2], [3]), ([1, 2, 3], [])]),
        ("a array<array<int>>", [([[1], [2]],), ([[1, 2]],), ([[1, 2], None],), ([[1, 2], []],)]),
        ("a struct<x: int, y: int>", [((1, None),), ((None, 1),), ((None, None),), (None,)]),
        (
            "a map<string, int>",
            [({"x": None},), ({"x": 1},), ({},), (None,), ({"y": None},), ({"x": 1, "y": None},)],
        ),
        ("a string COLLATE UTF8_LCASE, b array<string COLLATE UTF8_LCASE>", [("x", ["x"]), ("X", ["x"]), ("x", ["X"])]),
        ("a binary, b binary", [(b"x", None), (None, b"x"), (b"", b"x"), (b"x", b"")]),
    ],
)
def test_nulls_and_lengths_count_in_a_hash(spark: SparkSession, schema: str, rows: list[tuple]) -> None:
    assert len(set(hashes(spark, rows, schema))) == len(rows)
