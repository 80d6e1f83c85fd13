"""`flatten` and the HiveQL it writes."""

import pytest
from chispa import assert_df_equality
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.dataset import flatten, flatten_sql
from headrace.errors import RecipeError

SCHEMA = "id int, a array<string>, b array<int>, c array<struct<kind: string, size: int>>, m map<string, int>"
ROWS = [
    (1, ["x", "y"], [10], [("k", 1), ("l", 2)], {"p": 1}),
    (2, [], [20, 21, 22], [None], {}),
    (3, None, [None], [], None),
    (4, ["z", None], None, None, {"q": None, "r": 2}),
]

CASES = {
    "array": ({"a": "x"}, {}, "id", [(1, "x"), (1, "y"), (4, "z"), (4, None)]),
    "outer": ({"a": "x"}, {"outer": True}, "id", [(1, "x"), (1, "y"), (2, None), (3, None), (4, "z"), (4, None)]),
    "position": (
        {"a": "x"},
        {"position": True, "outer": True},
        "id",
        [(1, 0, "x"), (1, 1, "y"), (2, None, None), (3, None, None), (4, 0, "z"), (4, 1, None)],
    ),
    "crossed": ({"a": "x", "b": "y"}, {}, "id", [(1, "x", 10), (1, "y", 10)]),
    "crossed outer": (
        {"a": "x", "b": "y"},
        {"outer": True},
        "id",
        [
            *((1, "x", 10), (1, "y", 10), (2, None, 20), (2, None, 21), (2, None, 22)),
            *((3, None, None), (4, "z", None), (4, None, None)),
        ],
    ),
    "zipped": (
        {"a": "x", "b": "y"},
        {"zipped": True, "position": True},
        "id",
        [
            *((1, 0, "x", 10), (1, 1, "y", None), (2, 0, None, 20), (2, 1, None, 21), (2, 2, None, 22)),
            *((3, 0, None, None), (4, 0, "z", None), (4, 1, None, None)),
        ],
    ),
    "structs": ({"c": "c"}, {"outer": True}, "id", [(1, "k", 1), (1, "l", 2), *((i, None, None) for i in (2, 3, 4))]),
    "map with position": (
        {"m": "m"},
        {"position": True},
        "id",
        [(1, 0, "p", 1), (4, 0, "q", None), (4, 1, "r", 2)],
    ),
    "structs with position outer": (
        {"c": "c"},
        {"position": True, "outer": True},
        "id",
        [(1, 0, "k", 1), (1, 1, "l", 2), (2, 0, None, None), (3, None, None, None), (4, None, None, None)],
    ),
    "zipped with structs": (
        {"a": "x", "c": "c"},
        {"zipped": True},
        "id",
        [*((1, "x", "k", 1), (1, "y", "l", 2), (2, None, None, None)), *((4, x, None, None) for x in ("z", None))],
    ),
    "zipped with structs outer": (
        {"a": "x", "c": "c"},
        {"zipped": True, "outer": True},
        "id",
        [
            *((1, "x", "k", 1), (1, "y", "l", 2), (2, None, None, None), (3, None, None, None)),
            *((4, x, None, None) for x in ("z", None)),
        ],
    ),
    "array, map and structs crossed": (
        {"a": "x", "m": "m", "c": "c"},
        {},
        "id",
        [(1, x, "p", 1, *c) for x in ("x", "y") for c in (("k", 1), ("l", 2))],
    ),
    "map": ({"m": "m"}, {}, "id", [(1, "p", 1), (4, "q", None), (4, "r", 2)]),
    "map outer": (
        {"m": "m"},
        {"outer": True},
        "id",
        [(1, "p", 1), (2, None, None), (3, None, None), (4, "q", None), (4, "r", 2)],
    ),
}


@pytest.fixture(scope="module")
def frame(spark):
    return spark.createDataFrame(ROWS, SCHEMA)


@pytest.mark.parametrize(("arrays", "options", "kept", "expected"), CASES.values(), ids=CASES.keys())
def test_rows(spark, frame, arrays, options, kept, expected) -> None:
    found = flatten(frame.select(kept, *arrays), arrays, **options)
    assert_df_equality(found, spark.createDataFrame(expected, found.schema), ignore_row_order=True)


def test_names(frame) -> None:
    assert flatten(frame, {"c": "c", "m": "m"}, position=True).columns == [
        *("id", "a", "b", "c_position", "c_kind", "c_size", "m_position", "m_key", "m_value")
    ]


def test_the_sql_it_stands_for(spark, frame) -> None:
    sql = flatten_sql(frame.select("id", "a").schema, {"a": "caption"}, outer=True, position=True)
    assert sql == (
        "SELECT\n  s.`id`,\n  t0.position AS `caption_position`,\n  t0.item AS `caption`\n"
        "FROM `source` s\nLATERAL VIEW OUTER posexplode(s.`a`) t0 AS position, item"
    )
    frame.select("id", "a").createOrReplaceTempView("source")
    direct = flatten(frame.select("id", "a"), {"a": "caption"}, outer=True, position=True)
    assert_df_equality(spark.sql(sql), direct, ignore_row_order=True)
    spark.catalog.dropTempView("source")


def test_odd_names_are_quoted(spark) -> None:
    frame = spark.createDataFrame([(1, ["x"])], "`a b` int, `c``d; --` array<string>")
    assert flatten(frame, {"c`d; --": "order by"}).collect() == [(1, "x")]


WRONG = [
    ({"nope": "x"}, {}, "found 'nope', expected a column among id, a, b, c, m"),
    ({"id": "x"}, {}, "of type int, expected an array or a map"),
    ({"m": "x"}, {"zipped": True}, "expected an array, because zipped=True"),
    ({"a": "id"}, {}, "the name 'id' for two columns"),
    ({}, {}, "found none"),
]


@pytest.mark.parametrize(("arrays", "options", "named"), WRONG)
def test_wrong_arguments(frame, arrays, options, named: str) -> None:
    with pytest.raises(RecipeError) as error:
        flatten(frame, arrays, **options)
    assert named in str(error.value)


lists = st.lists(st.none() | st.integers(0, 9), max_size=4) | st.none()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(lists, lists), min_size=1, max_size=5), outer=st.booleans(), zipped=st.booleans())
def test_agrees_with_loops(spark, rows, outer: bool, zipped: bool) -> None:
    frame = spark.createDataFrame([(i, a, b) for i, (a, b) in enumerate(rows)], "i int, a array<int>, b array<int>")
    found = flatten(frame, {"a": "x", "b": "y"}, outer=outer, zipped=zipped).collect()
    expected = [(i, *pair) for i, (a, b) in enumerate(rows) for pair in _pairs(a or [], b or [], outer, zipped)]
    key = repr
    assert sorted(map(tuple, found), key=key) == sorted(expected, key=key)


def _pairs(a: list, b: list, outer: bool, zipped: bool) -> list[tuple]:
    if zipped:
        longest = max(len(a), len(b))
        pairs = [(a[i] if i < len(a) else None, b[i] if i < len(b) else None) for i in range(longest)]
        return pairs or ([(None, None)] if outer else [])
    if outer:
        a, b = a or [None], b or [None]
    return [(x, y) for x in a for y in b]
