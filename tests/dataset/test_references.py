"""Queries over handles give the rows that Spark gives over the bytes themselves.

The source repeats bytes in other rows, columns and elements, and has media that are null: handles differ there, and the
bytes do not.
"""

from collections.abc import Iterator

import pytest
from pyspark.sql import DataFrame, SparkSession

from headrace.dataset.query.media import bytes_column, find_leaves
from headrace.dataset.query.placement import Rows
from headrace.dataset.query.samples import VIEW, Samples, run_query

A, B, C = b"a", b"b", b"c"
WIDE = 30  # more fields than Spark prints
SCHEMA = f"""
    id string, label string, image binary, mask binary, captions array<string>, tiles array<binary>,
    conditions array<struct<kind: string, size: int, image: binary>>,
    views map<string, struct<alt: string, image: binary>>,
    cover struct<size: int, image: binary>, wide struct<{", ".join(f"f{i}: int" for i in range(WIDE))}, image: binary>
"""


def source_row(number: int, image: bytes | None, mask: bytes | None, others: list[bytes | None] | None) -> tuple:
    """A row with `others` in its array of media, its array and map of structs with media, and its structs."""
    media = others or []
    return (
        f"id{number}",
        f"label{number % 2}",
        image,
        mask,
        [f"caption {i}" for i in range(number % 3)],
        others,
        None if others is None else [(f"kind{i}", number, x) for i, x in enumerate(media)],
        None if others is None else {k: (f"{k} {number}", x) for k, x in zip(("front", "back"), media, strict=False)},
        None if others is None else (number, media[0] if media else None),
        (*range(WIDE), image),
    )


ROWS = [
    source_row(0, A, A, [A, A]),
    source_row(1, A, B, [B, None]),
    source_row(2, B, A, [None, None, C]),
    source_row(3, None, None, []),
    source_row(4, None, A, None),
    source_row(5, C, None, [A, B]),
]
# Another table: its `id` is not the key of the source.
PICKS = [("id0", "g1"), ("id1", "g1"), ("id2", "g1"), ("id1", "g2"), ("id5", "g2"), ("id9", None)]

EXPLODED = "FROM source LATERAL VIEW explode(conditions) t AS c"
PAIRS = "FROM source a JOIN source b ON a.label = b.label"
PICKED = "FROM picks p JOIN source s ON p.of = s.id"

BY_REFERENCE = {
    "distinct beside the key": "SELECT DISTINCT id, image, mask FROM source",
    "distinct, key and media renamed": "SELECT DISTINCT id AS x, image AS y FROM source",
    "distinct, key renamed below": "SELECT DISTINCT x, y FROM (SELECT id AS x, image AS y FROM source) q",
    "distinct after an explode": "SELECT DISTINCT id, image FROM source LATERAL VIEW explode(captions) t AS x",
    "distinct, a chosen element": "SELECT DISTINCT id, conditions[1].image AS image FROM source",
    "distinct, one of two columns": "SELECT DISTINCT id, if(label = 'label0', image, mask) AS image FROM source",
    "distinct, of two rows": f"SELECT DISTINCT a.id, a.image, b.id AS other, b.mask {PAIRS}",
    "distinct, an outer join": "SELECT DISTINCT p.g, s.id, s.image FROM picks p LEFT JOIN source s ON p.of = s.id",
    "distinct, a CTE": "WITH q AS (SELECT id, image FROM source) SELECT DISTINCT id, image FROM q",
    "group beside the key": "SELECT id, image, count(*) AS n FROM source GROUP BY id, image",
    "group, a window below": "SELECT id, image, max(n) AS n FROM (SELECT *, count(*) OVER (PARTITION BY label) AS n "
    "FROM source) q GROUP BY id, image",
    "group of a group": "SELECT DISTINCT x, y FROM (SELECT id AS x, image AS y, count(*) AS n FROM source "
    "GROUP BY id, image) q",
    "group by expressions": "SELECT g.id, s.id AS x, s.cover.image AS y, count(*) AS n "
    "FROM source s JOIN (SELECT g AS id, of FROM picks) g ON s.id = g.of GROUP BY g.id, s.id, s.cover.image",
    "group by all": "SELECT id, image, count(*) AS n FROM source LATERAL VIEW explode(captions) t AS x GROUP BY ALL",
    "first": "SELECT label, first(image) AS image FROM (SELECT * FROM source WHERE id < 'id2') q GROUP BY label",
    "pivot": "SELECT id, kind0, kind1 FROM (SELECT id, c.kind, c.image FROM source LATERAL VIEW explode(conditions) t "
    "AS c) q PIVOT (first(image) FOR kind IN ('kind0', 'kind1'))",
    "unpivot": "SELECT id, which, x FROM (SELECT id, image, mask FROM source) q UNPIVOT (x FOR which IN (image, mask))",
    "unpivot with nulls": "SELECT id, which, x FROM (SELECT id, image, mask FROM source) q "
    "UNPIVOT INCLUDE NULLS (x FOR which IN (image, mask))",
    "lag": "SELECT id, image, lag(image) OVER (ORDER BY id) AS x, last_value(mask) IGNORE NULLS OVER (ORDER BY id) "
    "AS y "
    "FROM source",
    "exists": "SELECT id, image FROM source s WHERE EXISTS (SELECT 1 FROM picks p WHERE p.of = s.id)",
    "in, by key": "SELECT id, image FROM source WHERE id IN (SELECT of FROM picks)",
    "not in, by key": "SELECT id, image FROM source WHERE id NOT IN (SELECT of FROM picks)",
    "a scalar subquery": "SELECT id, image, (SELECT mask FROM source WHERE id = 'id0') AS x FROM source",
    "a correlated subquery": "SELECT id, image, (SELECT first(mask) FROM source b WHERE b.id = a.id) AS x FROM "
    "source a",
    "natural join by key": "SELECT image, x FROM (SELECT id, image FROM source) NATURAL JOIN (SELECT id, mask AS x "
    "FROM source)",
    "union all": "SELECT id, image FROM source UNION ALL SELECT id, mask FROM source",
    "union all of everything": "SELECT id, image, cover.image AS x FROM (SELECT * FROM source UNION ALL SELECT * "
    "FROM source) q",
    "values in lists": "SELECT id, image FROM source WHERE label IN ('label1', 'x') OR (id, label) = ('id0', 'label0')",
    "a chosen map value": "SELECT a.id, a.views['front'].image AS image, b.views['back'].alt AS alt "
    "FROM source a JOIN source b ON a.id = b.id",
    "maps in a union": "SELECT id, views['front'].image AS image, NULL AS alt FROM source "
    "UNION ALL SELECT id, NULL, views['back'].alt FROM source",
    "maps in CTEs": "WITH x AS (SELECT id, views['front'].image AS image FROM source), "
    "y AS (SELECT id, map_values(views)[0].alt AS alt FROM source) SELECT x.id, x.image, y.alt FROM x JOIN y USING "
    "(id)",
    "maps in a subquery": "SELECT id, views['back'].image AS image, (SELECT max(b.views['back'].alt) FROM source b "
    "WHERE b.label = a.label) AS alt FROM source a",
    "exploded map": "SELECT id, k, v.alt, v.image FROM source LATERAL VIEW OUTER explode(views) t AS k, v",
    "arrays in branches": "SELECT a.id, a.conditions[0].image AS image, b.conditions[1].kind AS kind, "
    "c.conditions[0].size AS size FROM source a JOIN source b USING (id) JOIN source c USING (id)",
    "structs in branches": "SELECT a.id, a.cover.image AS image, b.cover.size FROM source a JOIN source b USING (id)",
    "a subquery named source": "SELECT id, image, n FROM (SELECT id, first(image) AS image, count(*) AS n FROM source "
    "GROUP BY id) source",
    "a lateral subquery": "SELECT id, image, caption FROM source s, LATERAL (SELECT explode(s.captions) AS caption) t",
    "a left lateral subquery": "SELECT id, image, upper(caption) AS caption FROM source s "
    "LEFT JOIN LATERAL (SELECT explode(s.captions) AS caption) t",
    "a lateral subquery of media": "SELECT id, c.kind, c.image FROM source s, "
    "LATERAL (SELECT explode(s.conditions) AS c) t",
    "is null": "SELECT id, image FROM source WHERE mask IS NULL OR cover IS NULL",
    "coalesce": "SELECT id, coalesce(image, mask, tiles[2]) AS image FROM source",
    "filter of an array": "SELECT id, filter(tiles, x -> x IS NOT NULL)[0] AS image FROM source",
    "collected": "SELECT label, size(collect_list(image)) AS n, count(*) AS m FROM source GROUP BY label",
    "distribute by": "SELECT id, image FROM source DISTRIBUTE BY label SORT BY id",
    "table sample": "SELECT id, image FROM source TABLESAMPLE (100 PERCENT)",
    "hints": "SELECT /*+ BROADCAST(p) */ id, image FROM source s JOIN picks p ON p.of = s.id",
}
BY_VALUE = {
    "distinct": "SELECT DISTINCT image FROM source",
    "distinct beside another's key": "SELECT DISTINCT label AS id, image FROM source",
    "distinct beside another table's key": f"SELECT DISTINCT p.g AS id, s.image {PICKED}",
    "distinct beside a changed key": "SELECT DISTINCT substr(id, 1, 2) AS id, image FROM source",
    "distinct beside another row's key": f"SELECT DISTINCT a.id, b.image {PAIRS}",
    "distinct elements": f"SELECT DISTINCT id, c.image {EXPLODED}",
    "distinct, another row of a CTE": "WITH q AS (SELECT id, image, label FROM source) "
    "SELECT DISTINCT a.id, b.image FROM q a JOIN q b ON a.label = b.label",
    "distinct of aggregates": "SELECT DISTINCT id, image FROM (SELECT label AS id, image FROM source "
    "GROUP BY label, image) q",
    "group": "SELECT image, count(*) AS n FROM source GROUP BY image",
    "group beside another table's key": "SELECT g.id, s.image, count(*) AS n FROM source s "
    "JOIN (SELECT g AS id, of FROM picks) g ON s.id = g.of GROUP BY g.id, s.image",
    "group elements": f"SELECT id, c.image, count(*) AS n {EXPLODED} GROUP BY id, c.image",
    "group by a wide struct": "SELECT wide.image AS image, count(*) AS n FROM source GROUP BY wide",
    "distinct wide structs": "SELECT q.wide.image FROM (SELECT DISTINCT wide FROM source) q",
    "rollup": "SELECT id, image, count(*) AS n FROM source GROUP BY ROLLUP (id, image)",
    "cube": "SELECT id, image, count(*) AS n FROM source GROUP BY CUBE (id, image)",
    "having": "SELECT image FROM source GROUP BY image HAVING count(*) > 1",
    "union": "SELECT id, image FROM source UNION SELECT id, mask FROM source",
    "union of everything": "SELECT id, image FROM (SELECT id, image FROM source UNION SELECT id, image FROM source) q",
    "distinct over a union all": "SELECT DISTINCT id, image FROM (SELECT id, image FROM source UNION ALL "
    "SELECT id, mask FROM source) q",
    "except": "SELECT id, image FROM source EXCEPT SELECT id, mask FROM source",
    "except all": "SELECT image FROM source EXCEPT ALL SELECT mask FROM source",
    "intersect": "SELECT id, image FROM source INTERSECT SELECT id, mask FROM source",
    "intersect all": "SELECT label, image FROM source INTERSECT ALL SELECT label, mask FROM source",
    "join": "SELECT a.id, b.id AS other, a.image FROM source a JOIN source b ON a.image = b.mask",
    "null-safe join": "SELECT a.id, b.id AS other FROM source a JOIN source b ON a.image <=> b.mask",
    "anti join": "SELECT a.id, a.image FROM source a LEFT ANTI JOIN source b ON a.image = b.mask",
    "join using": "SELECT a.id, b.id AS other, image FROM source a JOIN source b USING (image)",
    "natural join": "SELECT id, image FROM (SELECT id, image FROM source) NATURAL JOIN (SELECT mask AS image "
    "FROM source WHERE id = 'id0')",
    "in a list": "SELECT id, image FROM source WHERE image IN (mask, tiles[0])",
    "in a subquery": "SELECT id, image FROM source WHERE image IN (SELECT mask FROM source)",
    "in a subquery of rows": "SELECT id, image FROM source WHERE (label, image) IN (SELECT label, mask FROM source)",
    "not in a subquery": "SELECT id, image FROM source WHERE image NOT IN (SELECT mask FROM source "
    "WHERE mask IS NOT NULL)",
    "exists by media": "SELECT id, image FROM source a WHERE EXISTS (SELECT 1 FROM source b WHERE b.mask = a.image)",
    "a correlated count": "SELECT id, image, (SELECT count(*) FROM source b WHERE b.image = a.image) AS n FROM "
    "source a",
    "window partitions": "SELECT id, image, count(*) OVER (PARTITION BY image) AS n FROM source",
    "window order": "SELECT id, image, dense_rank() OVER (ORDER BY image) AS n FROM source",
    "order": "SELECT id, image FROM source ORDER BY image, id LIMIT 3",
    "count distinct": "SELECT label, count(DISTINCT image) AS n FROM source GROUP BY label",
    "count": "SELECT label, count(image) AS n FROM source GROUP BY label",
    "aggregates": "SELECT label, max(image) AS image, size(collect_set(image)) AS n FROM source GROUP BY label",
    "case": "SELECT id, CASE image WHEN mask THEN 'same' ELSE 'other' END AS x FROM source",
    "nullif": "SELECT id, nullif(image, mask) AS image FROM source",
    "between": "SELECT id, greatest(image, mask) AS image FROM source WHERE image BETWEEN mask AND tiles[0]",
    "array_contains": "SELECT id, image FROM source WHERE array_contains(tiles, image)",
    "array_distinct": "SELECT id, size(array_distinct(tiles)) AS n, array_position(tiles, mask) AS p FROM source",
    "array sets": "SELECT id, size(array_union(tiles, array(image))) AS n, size(array_except(tiles, array(mask))) AS "
    "m, "
    "arrays_overlap(tiles, array(image, mask)) AS o FROM source",
    "sorted arrays": "SELECT id, array_sort(tiles)[0] AS x, sort_array(tiles)[0] AS y, array_max(tiles) AS z FROM "
    "source",
    "lambdas": "SELECT id, size(filter(tiles, x -> x = image)) AS n, exists(tiles, x -> x <=> mask) AS e FROM source",
    "map keys": "SELECT id, map_from_entries(array(struct(image, 1)))[mask] AS n FROM source WHERE image IS NOT NULL",
    "map of media": "SELECT id, element_at(map(image, 'x'), mask) AS x FROM source WHERE image IS NOT NULL",
    "hash": "SELECT id, hash(image) AS h, md5(image) AS m, to_json(struct(image)) AS j FROM source",
    "cast": "SELECT id, CAST(image AS string) AS s FROM source",
    "a subquery named source": "SELECT image, n FROM (SELECT image, count(*) AS n FROM source GROUP BY image) source",
    "a CTE named source": "WITH source AS (SELECT DISTINCT image FROM source) SELECT image FROM source",
    "an alias named source": "SELECT source.image FROM (SELECT DISTINCT mask AS image FROM source) AS source",
    "a script": "SELECT TRANSFORM (id, image) USING 'cat' AS (id string, image string) FROM source WHERE id < 'id3'",
    "nested": "SELECT id, array(image, mask) AS both FROM source",
}


@pytest.fixture(scope="module")
def source(spark: SparkSession) -> Iterator[DataFrame]:
    frame = spark.createDataFrame(ROWS, SCHEMA).coalesce(1).localCheckpoint()
    spark.createDataFrame(PICKS, "of string, g string").coalesce(1).localCheckpoint().createOrReplaceTempView("picks")
    yield frame
    spark.catalog.dropTempView("picks")


@pytest.fixture(scope="module")
def media(source: DataFrame) -> dict[tuple[int, int, int], bytes | None]:
    """The bytes that each handle stands for, by row, slot and element."""
    leaves = find_leaves(source.schema)
    rows = source.select(Rows("id").row, *(bytes_column(leaf, source.schema) for leaf in leaves)).collect()
    return {
        (row[0], leaf.slot, element): value
        for row in rows
        for leaf, found in zip(leaves, row[1:], strict=True)
        for element, value in enumerate((found or []) if leaf.repeated else [found])
    }


def resolved(samples: Samples, media: dict[tuple[int, int, int], bytes | None]) -> tuple[list[tuple], bool]:
    """The rows of `samples` with bytes in place of handles, and whether any has media of several source rows."""
    rows, mixed = [], False
    for row in samples.frame.collect():  # with the columns of causes
        handles = {name: row[name] for name in samples.handles if row[name] is not None}
        found = {name: media[h["__row"], h["__slot"], h["__element"]] for name, h in handles.items()}
        rows.append(tuple(found.get(name, row[name]) for name in samples.columns))
        mixed |= len({handle["__row"] for handle in handles.values()}) > 1
    return rows, mixed


def by_bytes(source: DataFrame, query: str) -> list[tuple]:
    source.createOrReplaceTempView(VIEW)
    try:
        return list(map(tuple, source.sparkSession.sql(query).collect()))
    finally:
        source.sparkSession.catalog.dropTempView(VIEW)


@pytest.mark.parametrize("query", BY_REFERENCE.values(), ids=BY_REFERENCE.keys())
def test_handles_give_the_rows_of_the_bytes(source: DataFrame, media: dict, query: str) -> None:
    with run_query(source, query, find_leaves(source.schema), Rows("id")) as samples:
        assert samples.by_value is None
        found, mixed = resolved(samples, media)
        assert samples.mixed or not mixed
    assert sorted(found, key=repr) == sorted(by_bytes(source, query), key=repr)


@pytest.mark.parametrize("query", BY_VALUE.values(), ids=BY_VALUE.keys())
def test_what_handles_cannot_tell_runs_by_value(source: DataFrame, query: str) -> None:
    with run_query(source, query, find_leaves(source.schema), Rows("id")) as samples:
        assert samples.by_value is not None
        assert not samples.handles


KEYS = {
    "renamed": ("SELECT label AS id, id AS name, image FROM source", "name"),
    "of another table": (f"SELECT p.g AS id, image {PICKED}", None),
    "changed": ("SELECT upper(id) AS id, image FROM source", None),
    "by value": ("SELECT id AS name, md5(image) AS hash FROM source", "name"),
    "in groups": ("SELECT id AS name, count(*) AS n FROM source GROUP BY id", "name"),
    "in all branches": ("SELECT id AS x, image FROM source UNION ALL SELECT id, mask FROM source", "x"),
    "in one branch": ("SELECT id, image FROM source UNION ALL SELECT label, mask FROM source", None),
    "in a CTE": ("WITH q AS (SELECT id AS name, image FROM source) SELECT image, name FROM q", "name"),
}


@pytest.mark.parametrize(("query", "key"), KEYS.values(), ids=KEYS.keys())
def test_the_key_is_followed_by_what_it_is_and_not_by_its_name(source: DataFrame, query: str, key: str | None) -> None:
    with run_query(source, query, find_leaves(source.schema), Rows("id")) as samples:
        assert samples.key == key
