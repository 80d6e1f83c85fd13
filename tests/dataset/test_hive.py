"""Recipes get Hive's documented behaviour of table-generating functions and lateral views.

Expected rows follow the Hive language manual. explode and posexplode give no row for null, nor for empty arrays and
maps, where LATERAL VIEW OUTER gives one row of nulls. An element that is null gives a row. Lateral views multiply.
"""

import pytest

from headrace.dataset.query.placement import Rows
from headrace.dataset.query.samples import run_query

ROWS = [
    (1, ["x", "y"], {"k": 1}, [(1, "s")], [["n"], []]),
    (2, [], {}, [], []),
    (3, None, None, None, None),
    (4, [None], {"k": None}, [None], [None, ["m", None]]),
]
SCHEMA = "id int, a array<string>, m map<string, int>, s array<struct<f: int, g: string>>, nested array<array<string>>"

LATERAL = "SELECT id, {columns} FROM source LATERAL VIEW {outer} {function} t AS {columns}"


def lateral(function: str, columns: str, outer: str = "") -> str:
    return LATERAL.format(function=function, columns=columns, outer=outer)


CASES = {
    "explode in SELECT": ("SELECT id, explode(a) AS x FROM source", [(1, "x"), (1, "y"), (4, None)]),
    "explode of a map in SELECT": ("SELECT id, explode(m) AS (k, v) FROM source", [(1, "k", 1), (4, "k", None)]),
    "posexplode in SELECT": (
        "SELECT id, posexplode(a) AS (p, x) FROM source",
        [(1, 0, "x"), (1, 1, "y"), (4, 0, None)],
    ),
    "explode": (lateral("explode(a)", "x"), [(1, "x"), (1, "y"), (4, None)]),
    "explode outer": (
        lateral("explode(a)", "x", "OUTER"),
        [(1, "x"), (1, "y"), (2, None), (3, None), (4, None)],
    ),
    "explode of a map": (lateral("explode(m)", "k, v"), [(1, "k", 1), (4, "k", None)]),
    "explode of a map outer": (
        lateral("explode(m)", "k, v", "OUTER"),
        [(1, "k", 1), (2, None, None), (3, None, None), (4, "k", None)],
    ),
    "posexplode outer": (
        lateral("posexplode(a)", "p, x", "OUTER"),
        [(1, 0, "x"), (1, 1, "y"), (2, None, None), (3, None, None), (4, 0, None)],
    ),
    "inline": (lateral("inline(s)", "f, g"), [(1, 1, "s"), (4, None, None)]),
    "inline outer": (
        lateral("inline(s)", "f, g", "OUTER"),
        [(1, 1, "s"), (2, None, None), (3, None, None), (4, None, None)],
    ),
    "stack": (
        "SELECT id, p, q FROM source LATERAL VIEW stack(2, 'a', id, 'b', -id) t AS p, q WHERE id < 3",
        [(1, "a", 1), (1, "b", -1), (2, "a", 2), (2, "b", -2)],
    ),
    "two views multiply": (
        "SELECT id, x, k FROM source LATERAL VIEW explode(a) t AS x LATERAL VIEW explode(m) u AS k, v",
        [(1, "x", "k"), (1, "y", "k"), (4, None, "k")],
    ),
    "outer after inner": (
        "SELECT id, f, x FROM source LATERAL VIEW explode(array(1, 2)) t AS f LATERAL VIEW OUTER explode(a) u AS x "
        "WHERE id = 2",
        [(2, 1, None), (2, 2, None)],
    ),
    "a view over another's column": (
        "SELECT id, x FROM source LATERAL VIEW explode(nested) t AS i LATERAL VIEW explode(i) u AS x",
        [(1, "n"), (4, "m"), (4, None)],
    ),
    "outer over another's column": (
        "SELECT id, x FROM source LATERAL VIEW OUTER explode(nested) t AS i LATERAL VIEW OUTER explode(i) u AS x",
        [(1, "n"), (1, None), (2, None), (3, None), (4, None), (4, "m"), (4, None)],
    ),
    "empty literal outer": (
        "SELECT id, x FROM source LATERAL VIEW OUTER explode(array()) t AS x WHERE id = 1",
        [(1, None)],
    ),
    "in a subquery": (
        "SELECT id, count(*) AS n FROM (SELECT id, x FROM source LATERAL VIEW explode(a) t AS x) q GROUP BY id",
        [(1, 2), (4, 1)],
    ),
    "with GROUP BY": (
        "SELECT x, count(*) AS n FROM source LATERAL VIEW OUTER explode(a) t AS x GROUP BY x",
        [("x", 1), ("y", 1), (None, 3)],
    ),
    "with WHERE on its column": (
        "SELECT id, x FROM source LATERAL VIEW explode(a) t AS x WHERE x <> 'x'",
        [(1, "y")],
    ),
    "UNION ALL": (
        "SELECT id, explode(a) AS x FROM source UNION ALL SELECT id, 'extra' FROM source WHERE id = 2",
        [(1, "x"), (1, "y"), (4, None), (2, "extra")],
    ),
    "CTE": (
        "WITH flat AS (SELECT id, x FROM source LATERAL VIEW posexplode(a) t AS p, x WHERE p = 0) SELECT * FROM flat",
        [(1, "x"), (4, None)],
    ),
    "explode outer of a map in a subquery": (
        "SELECT id, k FROM (SELECT * FROM source WHERE id > 1) q LATERAL VIEW OUTER explode(m) t AS k, v",
        [(2, None), (3, None), (4, "k")],
    ),
    "posexplode": (lateral("posexplode(a)", "p, x"), [(1, 0, "x"), (1, 1, "y"), (4, 0, None)]),
    "posexplode of a map": (lateral("posexplode(m)", "p, k, v"), [(1, 0, "k", 1), (4, 0, "k", None)]),
    "posexplode of a map outer": (
        lateral("posexplode(m)", "p, k, v", "OUTER"),
        [(1, 0, "k", 1), (2, None, None, None), (3, None, None, None), (4, 0, "k", None)],
    ),
    "posexplode of nested arrays": (
        lateral("posexplode(nested)", "p, x"),
        [(1, 0, ["n"]), (1, 1, []), (4, 0, None), (4, 1, ["m", None])],
    ),
    "inline in SELECT": ("SELECT id, inline(s) AS (f, g) FROM source", [(1, 1, "s"), (4, None, None)]),
    "stack in SELECT, padded with null": (
        "SELECT id, stack(2, 'a', id, 'b') AS (p, q) FROM source WHERE id = 1",
        [(1, "a", 1), (1, "b", None)],
    ),
    "stack outer": (
        "SELECT id, p FROM source LATERAL VIEW OUTER stack(2, id, NULL) t AS p WHERE id = 2",
        [(2, 2), (2, None)],
    ),
    "three views multiply, outer ones too": (
        "SELECT id, x, k, f FROM source LATERAL VIEW OUTER explode(a) t AS x LATERAL VIEW OUTER explode(m) u AS k, v "
        "LATERAL VIEW OUTER inline(s) w AS f, g",
        [
            *((1, "x", "k", 1), (1, "y", "k", 1), (2, None, None, None), (3, None, None, None)),
            (4, None, "k", None),
        ],
    ),
    "a view over the map of another's column": (
        "SELECT id, k, x FROM source LATERAL VIEW explode(map('p', a, 'q', array('z'))) t AS k, l "
        "LATERAL VIEW explode(l) u AS x",
        [
            *((1, "p", "x"), (1, "p", "y"), (4, "p", None)),
            *((i, "q", "z") for i in (1, 2, 3, 4)),
        ],
    ),
    "GROUP BY of two views": (
        "SELECT k, count(x) AS n, count(*) AS m FROM source LATERAL VIEW OUTER explode(a) t AS x "
        "LATERAL VIEW OUTER explode(m) u AS k, v GROUP BY k HAVING count(*) > 1",
        [("k", 2, 3), (None, 0, 2)],
    ),
    "UNION ALL of views in CTEs": (
        "WITH flat AS (SELECT id, x FROM source LATERAL VIEW OUTER explode(a) t AS x), "
        "keys AS (SELECT id, k FROM source LATERAL VIEW explode(m) t AS k, v) "
        "SELECT * FROM flat WHERE x IS NOT NULL UNION ALL SELECT * FROM keys",
        [(1, "x"), (1, "y"), (1, "k"), (4, "k")],
    ),
    "collected again": (
        "SELECT id, sort_array(collect_list(x)) AS xs FROM source LATERAL VIEW OUTER explode(a) t AS x GROUP BY id",
        [(1, ["x", "y"]), (2, []), (3, []), (4, [])],
    ),
    "a lateral view of a lateral view's alias": (
        "SELECT t.x, u.p FROM source LATERAL VIEW explode(nested) t AS x LATERAL VIEW OUTER posexplode(t.x) u AS p, y "
        "WHERE id = 1",
        [(["n"], 0), ([], None)],
    ),
    "index past the end": ("SELECT id, a[5] AS x FROM source WHERE id = 1", [(1, None)]),
}


@pytest.fixture(scope="module")
def source(spark):
    return spark.createDataFrame(ROWS, SCHEMA)


@pytest.mark.parametrize(("query", "expected"), CASES.values(), ids=CASES.keys())
def test_rows(source, query: str, expected: list[tuple]) -> None:
    with run_query(source, query, (), Rows("id")) as samples:
        found = samples.frame.select(*samples.columns).collect()
    assert sorted(map(tuple, found), key=repr) == sorted(expected, key=repr)
