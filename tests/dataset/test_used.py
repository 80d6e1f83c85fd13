"""What a query uses of its source is found by planning it, whatever the source is: files, views or computed columns."""

from pathlib import Path

import pytest
from chispa import assert_df_equality

from headrace.dataset.build import build
from headrace.dataset.query.samples import VIEW
from headrace.dataset.query.used import used_paths
from headrace.recipe.dataset import Source
from tests.dataset.conftest import QUERY, expected, recipe, row, written

SCHEMA = """
    id string, image binary, captions array<string>, names map<string, string>,
    conditions array<struct<kind: string, meta: struct<size: int, mask: binary>>>,
    views map<string, struct<alt: string, image: binary>>
"""
USED = {
    "one column": ("SELECT id FROM source", {"id"}),
    "a filter's column": ("SELECT id FROM source WHERE size(captions) > 1", {"id", "captions"}),
    "a subquery's column": (
        "SELECT id FROM source a WHERE id IN (SELECT b.id FROM source b WHERE b.image = a.image)",
        {"id", "image"},
    ),
    "all of a subquery's columns": (
        "SELECT (SELECT struct(*) FROM (SELECT * FROM source UNION ALL SELECT * FROM source) q LIMIT 1) AS s",
        {"id", "image", "captions", "names", "conditions", "conditions.kind", "conditions.meta", "conditions.meta.size"}
        | {"conditions.meta.mask", "views", "views.alt", "views.image"},
    ),
    "a field in an array": (
        "SELECT c.meta.size FROM source LATERAL VIEW explode(conditions) t AS c",
        {"conditions", "conditions.meta", "conditions.meta.size"},
    ),
    "fields of two branches": (
        "SELECT conditions[0].kind FROM source UNION ALL SELECT views['x'].alt FROM source",
        {"conditions", "conditions.kind", "views", "views.alt"},
    ),
    "fields of a map's values on both sides of a join": (
        "SELECT a.views['x'].image, b.views['x'].alt FROM source a JOIN source b ON a.id = b.id",
        {"id", "views", "views.image", "views.alt"},
    ),
    "fields of a map's values in a CTE and a subquery": (
        "WITH q AS (SELECT id, views['x'].image AS image FROM source) "
        "SELECT id, image, (SELECT max(views['x'].alt) FROM source) AS alt FROM q",
        {"id", "views", "views.image", "views.alt"},
    ),
    "a column that a CTE of the source's name makes": (
        "WITH source AS (SELECT id AS image, views['x'].alt AS conditions FROM source) SELECT * FROM source",
        {"id", "views", "views.alt"},
    ),
    "nothing": ("SELECT 1 AS one", set()),
}


@pytest.mark.parametrize(("query", "used"), USED.values(), ids=USED.keys())
def test_finds_what_a_query_uses(spark, query: str, used: set[str]) -> None:
    schema = spark.createDataFrame([], SCHEMA).schema
    found = used_paths(spark, query, VIEW, schema)
    spark.catalog.dropTempView(VIEW)
    assert {".".join(part for part in path if part != "[]") for path in found} == used


@pytest.mark.parametrize("images", [None, {"column": "image", "facts": ["width"], "conditions": ["grayscale"]}])
def test_a_view_may_rename_and_wrap_the_columns_of_its_files(spark, parquet, tmp_path: Path, images) -> None:
    """The view has more binary columns than a long has bits, and a column named like another one of its files."""
    files = parquet([row(i, conditions=1) for i in range(4)])
    empty = ", ".join(f"CAST(NULL AS binary) AS other{i}" for i in range(66))
    spark.sql(
        f"CREATE OR REPLACE VIEW wrapped AS SELECT id, {empty}, image, captions AS texts, "
        f"array(named_struct('kind', id, 'image', conditions[0].image)) AS conditions FROM parquet.`{files}`"
    )
    query = QUERY.replace("s.captions", "s.texts")
    sections = {} if images is None else {"images": images}
    made = recipe(files, tmp_path / "out", query, **sections).model_copy(update={"source": Source(table="wrapped")})
    summary = build(spark, made)
    assert summary.by_value is None
    frame = written(spark, tmp_path / "out").drop("sample_id")
    if images is not None:
        assert frame.where("kind = 'grayscale' AND condition IS NOT NULL").count() == 8
        frame = frame.where("kind <> 'grayscale'")
    wanted = expected(spark, files, query.replace("FROM source", "FROM wrapped"))
    assert_df_equality(frame, wanted, ignore_row_order=True, ignore_nullable=True)
    spark.sql("DROP VIEW wrapped")
