"""The progress bar of Spark's jobs."""

import re

from headrace.dataset.spark_progress import spark_progress


def test_counts_tasks_rows_and_bytes(spark, tmp_path, capfd) -> None:
    spark.range(0, 1000, numPartitions=3).write.parquet(str(tmp_path / "rows"))
    capfd.readouterr()
    with spark_progress(spark, "counting"):
        frame = spark.read.parquet(str(tmp_path / "rows"))
        assert frame.repartition(4, "id").groupBy("id").count().count() == 1000
    last = capfd.readouterr().err.strip().splitlines()[-1]
    found = re.match(r"counting: (\d+)/?(\d*) tasks  rows ([\d,]+)  MB (\d+)", last)
    assert found, last
    assert int(found[1]) >= 4
    # Each row is read from the files, and again after each shuffle.
    assert int(found[3].replace(",", "")) >= 2000
