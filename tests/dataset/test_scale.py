"""What a build reads and how it copes with lopsided input."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from pipelines.dataset.build import build
from pipelines.dataset.media import find_leaves, used_leaves
from pipelines.dataset.query import run_query
from pipelines.dataset.samples import shuffled
from pipelines.dataset.survey import BYTES_OF_TEXT
from tests.dataset.conftest import recipe, row

READ = {
    "captions alone": ("SELECT id, explode(captions) AS c FROM source", [], {"id", "captions"}),
    "image alone": ("SELECT id, image FROM source", ["image"], {"id", "image"}),
    "a field of a struct in an array": (
        "SELECT id, t.name, image FROM source LATERAL VIEW explode(tags) u AS t",
        ["image"],
        {"id", "image", "tags<name>"},
    ),
    # A struct that holds media is read whole where it stands in an array; its media are shipped alone.
    "conditions": (
        "SELECT id, c.image FROM source LATERAL VIEW explode(conditions) t AS c",
        ["conditions.image"],
        {"id", "conditions<kind,image>", "conditions<image>"},
    ),
}


@pytest.mark.parametrize(("query", "shipped", "read"), READ.values(), ids=READ.keys())
def test_reads_only_the_columns_that_a_query_uses(spark, parquet, tmp_path: Path, query, shipped, read) -> None:
    wide = spark.read.parquet(str(parquet([row(0)]))).select(
        "*",
        F.expr("array(named_struct('name', id, 'weight', 1.0D)) AS tags"),
    )
    wide.write.parquet(str(tmp_path / "wide"))
    source = spark.read.parquet(str(tmp_path / "wide"))
    leaves = find_leaves(source.schema)
    with run_query(source, query, leaves, "id") as samples:
        used = used_leaves(samples.frame, leaves)
        assert [leaf.name for leaf in used] == shipped
        plan = shuffled(source, samples, used, "id", 0, 2)._jdf.queryExecution().executedPlan().toString()
    found = set()
    for schema in re.findall(r"ReadSchema: struct<(.*)>", plan):
        flat = re.sub(r"array<struct<([^>]*)>>", lambda m: "<" + re.sub(r":\w+", "", m[1]) + ">", schema)
        found |= {re.sub(r":array<string>|:(?=<)|:\w+", "", part) for part in re.split(r",(?![^<]*>)", flat)}
    assert found == read


def test_one_image_with_very_many_captions(spark, parquet, tmp_path: Path) -> None:
    many = [row(0, captions=[f"caption {i}" for i in range(100_000)]), *(row(i) for i in range(1, 9))]
    query = "SELECT id, image, n, caption FROM source LATERAL VIEW posexplode(captions) t AS n, caption"
    summary = build(spark, recipe(parquet(many), tmp_path / "out", query, shards={"target_bytes": 1024}))
    assert summary.rows == 100_016
    assert summary.media_bytes == sum(len(r["image"]) for r in many)
    assert summary.stored_bytes < 4_000_000
    ids = [x for path in (tmp_path / "out").glob("*.parquet") for x in pq.read_table(path)["sample_id"].to_pylist()]
    assert len(set(ids)) == 100_016


def test_shards_are_sized_by_what_is_stored(spark, parquet, tmp_path: Path) -> None:
    source = parquet([row(i) for i in range(60)])
    size = len(row(0)["image"])
    query = "SELECT id, image FROM source WHERE id < 'id020'"
    summary = build(spark, recipe(source, tmp_path / "out", query, shards={"target_bytes": 5 * size}))
    assert summary.rows_named == 20
    assert summary.shards == 4


@pytest.mark.parametrize("select", ["image, octet_length(image) AS size", "caption"])
def test_shards_of_queries_without_handles_are_sized_too(spark, parquet, tmp_path: Path, select: str) -> None:
    source = parquet([row(i, [f"{i} {j}" for j in range(20)]) for i in range(40)])
    query = f"SELECT id, {select} FROM source LATERAL VIEW explode(captions) t AS caption"
    media = sum(len(row(i)["image"]) for i in range(40)) if "image" in select else 0
    target = (media + 800 * BYTES_OF_TEXT) // 4
    summary = build(spark, recipe(source, tmp_path / "out", query, shards={"target_bytes": target}))
    assert summary.shards in (4, 5)
    assert summary.rows == 800


def test_bytes_of_unused_images_are_not_shuffled(spark, parquet) -> None:
    source = spark.read.parquet(str(parquet([row(i) for i in range(60)])))
    leaves = find_leaves(source.schema)
    with run_query(source, "SELECT id, image FROM source WHERE id < 'id020'", leaves, "id") as samples:
        named = spark.createDataFrame([], "row bigint").unionAll(samples.frame.select(F.col("image.__row")))
        frame = shuffled(source, samples, used_leaves(samples.frame, leaves), "id", 0, 2, named)
        assert frame.where("m0 IS NOT NULL").count() == 20
