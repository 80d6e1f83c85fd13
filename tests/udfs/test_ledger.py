"""Absence is counted once per row, by cause, whatever Spark repeats."""

import pytest

from headrace import udfs
from headrace.udfs.ledger import Ledger

ROWS, PARTS = 1000, 4


@pytest.fixture(scope="module", autouse=True)
def functions(spark, acme_jar):
    udfs.register(spark, "acme.Calls", jar=acme_jar, prefix="l_", on_error="absent")


def captions(spark):
    """By id % 10: for 0 and 1 both are null, for 2 only fall_back is null, for 3 there is nothing to pick."""
    return spark.range(0, ROWS, 1, PARTS).selectExpr(
        "concat('img-', id) AS image_id",
        "id",
        "CASE WHEN id % 10 IN (0, 1) THEN NULL WHEN id % 10 = 3 THEN '' ELSE 'alt' END AS alt",
        "CASE WHEN id % 10 IN (0, 1, 2) THEN NULL WHEN id % 10 = 3 THEN '' ELSE 'text' END AS fall_back",
    )


def test_counts_and_examples_by_cause(spark, mode):
    ledger = Ledger(spark)
    query = captions(spark).selectExpr(
        "image_id",
        "l_pick(alt, fall_back) AS caption",
        "upper(l_failing(IF(id % 10 = 9, 'checked', 'x'))) AS other",
    )
    rows = ledger.observe(query, key="IMAGE_ID").collect()
    picked, failing = ledger.absences()
    assert (picked.column, picked.function) == ("caption", "l_pick")
    assert (picked.values, picked.data, picked.algorithm, picked.failure) == (600, 300, 100, 0)
    assert (failing.column, failing.function) == ("other", "l_failing")
    assert (failing.values, failing.data, failing.algorithm, failing.failure) == (900, 0, 0, 100)
    assert sum(row.caption is None for row in rows) == picked.data + picked.algorithm
    assert set(picked.examples) == {"data", "algorithm"}
    absent = {row.image_id for row in rows if row.caption is None}
    for keys in picked.examples.values():
        assert len(set(keys)) == len(keys) == 10
        assert set(keys) <= absent
    assert all(int(key.removeprefix("img-")) % 10 == 3 for key in picked.examples["algorithm"])


def test_the_latest_action_counts_and_filters_do_not_count_twice(spark):
    ledger = Ledger(spark)
    query = captions(spark).selectExpr("id", "l_pick(alt, fall_back) AS caption")
    watched = ledger.observe(query)
    for _ in range(2):
        assert watched.where("caption IS NOT NULL").orderBy("id").count() == 600
    watched.where("caption IS NOT NULL AND length(caption) > 2").repartition(3, "id").sortWithinPartitions(
        "id"
    ).collect()
    (absence,) = ledger.absences()
    assert absence.values + absence.data + absence.algorithm == ROWS
    assert absence.examples == {}


def test_work_that_spark_repeats_counts_once(spark):
    """Sorting samples its input first: each row is computed in two jobs."""
    ledger = Ledger(spark)
    query = captions(spark).selectExpr("image_id", "l_pick(alt, fall_back) AS caption")
    assert len(ledger.observe(query, key="image_id").orderBy("caption", "image_id").collect()) == ROWS
    (absence,) = ledger.absences()
    assert (absence.values, absence.data, absence.algorithm) == (600, 300, 100)
