"""A query or a source that may give other rows when it runs again is run once."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from headrace.dataset.build import build
from tests.dataset.conftest import png, recipe, row


@pytest.mark.parametrize(
    ("numbers", "query"),
    [
        ("monotonically_increasing_id()", "SELECT key, id, image FROM source"),
        ("row_number() OVER (ORDER BY length(id))", "SELECT key, id, image FROM source"),
        ("id", "SELECT id, image FROM (SELECT /*+ REPARTITION(7) */ * FROM source) WHERE id <> 'id000' LIMIT 9"),
        ("id", "SELECT id, image FROM source TABLESAMPLE (60 PERCENT) WHERE id <> 'id000'"),
        (
            "id",
            "SELECT a.id, a.image, b.id AS other_id, b.image AS other FROM source a JOIN "
            "(SELECT /*+ REPARTITION(5) */ * FROM source LIMIT 4) b ON a.id <> b.id",
        ),
    ],
)
def test_rows_keep_their_media_where_another_run_may_pick_other_rows(
    spark, parquet, tmp_path: Path, numbers: str, query: str
) -> None:
    """Spark deals rows to tasks by all columns that it reads: a job that reads others numbers and picks others."""
    folder = parquet([row(i) for i in range(40)])
    made = recipe(folder, tmp_path / "out", query, source={"table": "numbered"}, shuffle={"key": "key", "seed": 7})
    spark.sql(
        f"CREATE OR REPLACE VIEW numbered AS SELECT {numbers} AS key, id, image "
        f"FROM (SELECT /*+ REPARTITION(3) */ * FROM parquet.`{folder}`)"
    )
    try:
        summary = build(spark, made)
    finally:
        spark.sql("DROP VIEW numbered")
    rows = DeltaTable(str(tmp_path / "out")).to_pyarrow_table().to_pylist()
    assert (summary.by_value, summary.rows) == (None, len(rows))
    assert len({r["key"] for r in rows if "key" in r}) in {0, 40}
    for r in rows:
        assert r["image"] == png(int(r["id"][2:]))
        assert r.get("other", b"") == (png(int(r["other_id"][2:])) if "other" in r else b"")
