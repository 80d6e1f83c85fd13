"""What a build reads, and how it copes with skewed input."""

import re
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from pyspark.sql import functions as F

from headrace.dataset.build import build
from headrace.dataset.query.media import find_leaves, used_leaves
from headrace.dataset.query.placement import Placement, Rows
from headrace.dataset.query.samples import run_query
from headrace.dataset.survey import BYTES_OF_TEXT, count_rows, survey
from headrace.dataset.write.shuffle import shuffled
from tests.dataset.conftest import recipe, row

READ = {
    "captions alone": ("SELECT id, explode(captions) AS c FROM source", [], {"id", "captions"}),
    "image alone": ("SELECT id, image FROM source", ["image"], {"id", "image"}),
    "a field of a struct in an array": (
        "SELECT id, t.name, image FROM source LATERAL VIEW explode(tags) u AS t",
        ["image"],
        {"id", "image", "tags<name>"},
    ),
    # Spark reads all fields of an exploded struct if it needs several. Media are read only to be shipped.
    "a struct's media in an array, beside other fields": (
        "SELECT id, p.kind, p.meta.size FROM source LATERAL VIEW explode(pictures) t AS p",
        [],
        {"id", "pictures<kind,width,meta<size>>"},
    ),
    "and shipped": (
        "SELECT id, p.meta.image, p.kind FROM source LATERAL VIEW explode(pictures) t AS p",
        ["pictures.meta.image"],
        {"id", "pictures<kind,width,meta<size>>", "pictures<meta<image>>"},
    ),
    "only media of a struct at the top": (
        "SELECT id, cover.image FROM source",
        ["cover.image"],
        {"id", "cover<image>"},
    ),
    "a field beside media at the top": ("SELECT id, cover.size FROM source", [], {"id", "cover<size>"}),
    "a map of media": (
        "SELECT id, k, m FROM source LATERAL VIEW explode(album) t AS k, m",
        ["album"],
        {"id", "album:map<string,binary>"},
    ),
    # The kinds are read to count the conditions, whose images are shipped.
    "conditions": (
        "SELECT id, c.image FROM source LATERAL VIEW explode(conditions) t AS c",
        ["conditions.image"],
        {"id", "conditions<kind>", "conditions<image>"},
    ),
}


@pytest.mark.parametrize(("query", "shipped", "read"), READ.values(), ids=READ.keys())
def test_reads_only_the_columns_that_a_query_uses(spark, parquet, tmp_path: Path, query, shipped, read) -> None:
    if spark.version < "4.3" and {"pictures<meta<image>>", "conditions<image>"} & read:
        pytest.skip("older versions of Spark read the fields beside media in arrays as well")
    wide = spark.read.parquet(str(parquet([row(0)]))).select(
        "*",
        F.expr("array(named_struct('name', id, 'weight', 1.0D)) AS tags"),
        F.expr(
            "array(named_struct('kind', id, 'width', 1, 'meta', named_struct('size', 1, 'image', image))) AS pictures"
        ),
        F.expr("named_struct('size', 1, 'image', image) AS cover"),
        F.expr("map(id, image) AS album"),
    )
    wide.write.parquet(str(tmp_path / "wide"))
    source = spark.read.parquet(str(tmp_path / "wide"))
    leaves = find_leaves(source.schema)
    with run_query(source, query, leaves, Rows("id")) as samples:
        used = used_leaves(samples.frame, leaves) if samples.handles else ()
        assert [leaf.name for leaf in used] == shipped
        frame = shuffled(source, samples, used, Rows("id"), Placement((2,)))
        plan = frame._jdf.queryExecution().executedPlan().toString()
    found: set[str] = set()
    for schema in re.findall(r"ReadSchema: struct<(.*)>", plan):
        found |= {_names(part) for part in _columns(schema)}
    assert found == read


def test_media_that_no_sample_names_are_not_shipped(spark, parquet, tmp_path: Path) -> None:
    """Spark's plan makes handles of conditions here, since two of their fields are exploded, but no sample has any."""
    spark.read.parquet(str(parquet([row(i) for i in range(6)]))).withColumn(
        "conditions", F.expr("transform(conditions, c -> struct(c.kind, length(c.kind) AS size, c.image))")
    ).write.parquet(str(tmp_path / "sized"))
    source, rows = spark.read.parquet(str(tmp_path / "sized")), Rows("id")
    leaves = find_leaves(source.schema)
    query = "SELECT id, image, c.kind, c.size FROM source LATERAL VIEW explode(conditions) t AS c"
    with run_query(source, query, leaves, rows) as samples:
        counted = survey(source, rows, leaves, count_rows(source, rows, samples, {}), (), True)
    assert [leaf.name for leaf in counted.leaves] == ["image"]
    assert (counted.rows, counted.named_rows, counted.samples) == (6, 6, 12)


def _columns(schema: str) -> list[str]:
    """The columns of a plan's ReadSchema, which is split at commas outside all brackets."""
    depth, columns = 0, [""]
    for character in schema:
        depth += (character == "<") - (character == ">")
        if character == "," and depth == 0:
            columns.append("")
        else:
            columns[-1] += character
    return columns


def _names(column: str) -> str:
    """A column of a plan's ReadSchema, with only the names of its structs' fields."""
    if column.partition(":")[2].startswith("map"):
        return column
    column = re.sub(r":(array<)?struct<", "<", column)
    column = re.sub(r":array<\w+>|:\w+", "", column)
    return re.sub(r">+$", lambda m: ">" * column.count("<"), column)


def test_one_image_with_very_many_captions(spark, parquet, tmp_path: Path) -> None:
    many = [row(0, captions=[f"caption {i}" for i in range(100_000)]), *(row(i) for i in range(1, 9))]
    query = "SELECT id, image, n, caption FROM source LATERAL VIEW posexplode(captions) t AS n, caption"
    summary = build(spark, recipe(parquet(many), tmp_path / "out", query, shards={"target_bytes": 400_000}))
    assert summary.rows == 100_016
    assert summary.stored_bytes < 4_000_000
    # Its captions are spread over several shards, each of which has its image once.
    tables = [pq.read_table(path) for path in (tmp_path / "out").glob("*.parquet")]
    assert sum("id000" in table["id"].to_pylist() for table in tables) > 1
    assert max(table.num_rows for table in tables) < 60_000
    ids = [x for path in (tmp_path / "out").glob("*.parquet") for x in pq.read_table(path)["sample_id"].to_pylist()]
    assert len(set(ids)) == 100_016


def test_shards_are_sized_by_what_is_stored(spark, parquet, tmp_path: Path) -> None:
    source = parquet([row(i) for i in range(60)])
    size = len(row(0)["image"])
    query = "SELECT id, image FROM source WHERE id < 'id020'"
    summary = build(spark, recipe(source, tmp_path / "out", query, shards={"target_bytes": 5 * size}))
    assert summary.rows_named == 20
    assert summary.shards in (4, 5)  # text takes some bytes


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
    with run_query(source, "SELECT id, image FROM source WHERE id < 'id020'", leaves, Rows("id")) as samples:
        named = spark.createDataFrame([], "row bigint").unionAll(samples.frame.select(F.col("image.__row")))
        frame = shuffled(source, samples, used_leaves(samples.frame, leaves), Rows("id"), Placement((2,)), named)
        assert frame.where("m0 IS NOT NULL").count() == 20
