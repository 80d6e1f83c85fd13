"""Every supported type, both ways, against values that went through Spark's own built-ins."""

import pytest

from headrace import udfs

PREFIX = "t_"
POINT = "named_struct('x', 1, 'y', 2.5D)"
POINT_WITHOUT_Y = "named_struct('x', 1, 'y', CAST(NULL AS DOUBLE))"
SHAPE = (
    f"named_struct('name', 'a', 'points', array({POINT}, NULL, {POINT_WITHOUT_Y}), "
    "'colours', map('k', 'RED'), 'bytes', X'00FF')"
)

# function, and values as SQL expressions: the first two have the same type and differ, the last is null
ROUND_TRIPS = {
    "of_boolean": ["true", "false"],
    "of_boolean_boxed": ["true", "false"],
    "of_byte": ["-128Y", "127Y"],
    "of_byte_boxed": ["-128Y", "127Y"],
    "of_short": ["-32768S", "32767S"],
    "of_short_boxed": ["-32768S", "32767S"],
    "of_int": ["-2147483648", "2147483647"],
    "of_int_boxed": ["-2147483648", "2147483647"],
    "of_long": ["-9223372036854775808L", "9223372036854775807L"],
    "of_long_boxed": ["-9223372036854775808L", "9223372036854775807L"],
    "of_float": ["CAST('NaN' AS FLOAT)", "1.5F"],
    "of_float_boxed": ["CAST('-Infinity' AS FLOAT)", "-0.1F"],
    "of_double": ["CAST('NaN' AS DOUBLE)", "1.5D"],
    "of_double_boxed": ["1e300D", "-0.1D"],
    "of_decimal": ["CAST('12345678901234567890.123456789012345678' AS DECIMAL(38,18))", "CAST(-1 AS DECIMAL(38,18))"],
    "of_string": ["'naïve 🙂'", "''"],
    "of_bytes": ["X'00FF10'", "X''"],
    "of_date": ["DATE'1582-10-15'", "DATE'9999-12-31'"],
    "of_instant": ["TIMESTAMP'1969-12-31 23:59:59.999999Z'", "TIMESTAMP'2024-02-29 12:00:00Z'"],
    "of_date_time": ["TIMESTAMP_NTZ'1969-12-31 23:59:59.999999'", "TIMESTAMP_NTZ'2024-02-29 12:00:00'"],
    "of_duration": ["INTERVAL '-1 02:03:04.000005' DAY TO SECOND", "INTERVAL '100' DAY + INTERVAL '1' SECOND"],
    "of_enum": ["'RED'", "'GREEN'"],
    "of_optional_int": ["7", "-7"],
    "of_optional_long": ["7L", "-7L"],
    "of_optional_double": ["7.5D", "-7.5D"],
    "of_optional_boolean": ["true", "false"],
    "of_optional_integer": ["7", "-7"],
    "of_optional_long_boxed": ["7L", "-7L"],
    "of_optional_float": ["7.5F", "-7.5F"],
    "of_optional_decimal": ["CAST(1.25 AS DECIMAL(38,18))", "CAST(-1 AS DECIMAL(38,18))"],
    "of_optional_string": ["'a'", "''"],
    "of_optional_bytes": ["X'01'", "X''"],
    "of_optional_date": ["DATE'2024-02-29'", "DATE'0001-01-01'"],
    "of_optional_instant": ["TIMESTAMP'2024-02-29 12:00:00Z'", "TIMESTAMP'1900-01-01 00:00:00Z'"],
    "of_optional_date_time": ["TIMESTAMP_NTZ'2024-02-29 12:00:00'", "TIMESTAMP_NTZ'1900-01-01 00:00:00'"],
    "of_optional_duration": ["INTERVAL '1 00:00:00' DAY TO SECOND", "INTERVAL '0 00:00:01' DAY TO SECOND"],
    "of_optional_enum": ["'RED'", "'GREEN'"],
    "of_list": ["array('a', 'b')", "CAST(array() AS ARRAY<STRING>)"],
    "of_list_of_optional": ["array('a', NULL)", "array(CAST(NULL AS STRING))"],
    "of_optional_list_of_optional": [f"array({POINT}, NULL)", f"array({POINT_WITHOUT_Y}, NULL)"],
    "of_set": ["array(3, 1, 2)", "array(0)"],
    "of_map": ["map('a', 1L, 'b', NULL)", "map('c', CAST(NULL AS BIGINT))"],
    "of_map_of_lists": ["map(1, array('a'))", "map(2, CAST(array() AS ARRAY<STRING>))"],
    "of_int_array": ["array(1, 2)", "array(-1)"],
    "of_double_arrays": ["array(array(1D), array(2D, 3D))", "array(array(0D))"],
    "of_string_array": ["array('a', 'b')", "array('')"],
    "of_optional_array": ["array('a', NULL)", "array(CAST(NULL AS STRING))"],
    "of_byte_arrays": ["array(X'01', X'')", "array(X'02')"],
    "of_wildcard": [f"array({POINT}, {POINT_WITHOUT_Y})", f"array({POINT})"],
    "of_record": [POINT, POINT_WITHOUT_Y],
    "of_optional_record": [POINT, POINT_WITHOUT_Y],
    "of_nested": [SHAPE, SHAPE.replace("map('k', 'RED')", "CAST(NULL AS MAP<STRING, STRING>)")],
}

# what Java received or made, and the same with Spark's built-ins
BOTH_WAYS = [
    ("t_text(d)", "CAST(d AS STRING)"),
    ("t_text(n)", "date_format(n, \"yyyy-MM-dd'T'HH:mm:ss\")"),
    ("t_text(i)", "date_format(i, \"yyyy-MM-dd'T'HH:mm:ss\") || 'Z'"),
    ("t_millis(span)", "CAST(CAST(span AS INTERVAL SECOND) AS DECIMAL(18, 3)) * 1000"),
    ("t_plain(p)", "CAST(p AS STRING)"),
    ("t_ordinal(c)", "CASE c WHEN 'RED' THEN 0 ELSE 1 END"),
    ("t_size(list)", "size(filter(list, x -> x IS NOT NULL))"),
    ("t_size(CAST(NULL AS ARRAY<INT>))", "-1"),
    ("t_parse_date('2024-02-29')", "to_date('2024-02-29')"),
    ("t_parse_instant('2024-02-29T12:34:56.789012Z')", "to_timestamp('2024-02-29 12:34:56.789012Z')"),
    ("t_parse_date_time('2024-02-29T12:34:56.789012')", "to_timestamp_ntz('2024-02-29 12:34:56.789012')"),
    ("t_of_seconds(90061L)", "make_dt_interval(1, 1, 1, 1)"),
    ("t_parse_decimal('-1.25')", "to_number('-1.25', 'S9.99')"),
    ("to_json(t_lengths(array('a', 'bcd')))", "to_json(map('a', 1, 'bcd', 3))"),
    ("t_point(1, 2.5D)", POINT),
    ("t_point(1Y, 2.5)", POINT),
    ("t_of_record(named_struct('extra', 9, 'Y', 2.5D, 'X', 1Y))", POINT),
    ("t_of_record(named_struct('x', 1))", POINT_WITHOUT_Y),
    ("t_of_decimal(CAST(1.5 AS DECIMAL(4, 2)))", "CAST(1.5 AS DECIMAL(38, 18))"),
    ("t_of_long(1Y)", "1L"),
    ("t_of_double(3000000000)", "3e9D"),
]


@pytest.fixture(scope="module", autouse=True)
def functions(spark, acme_jar):
    return udfs.register(spark, "acme.Types", jar=acme_jar, prefix=PREFIX)


def test_each_type_goes_in_and_comes_out_as_it_was(spark, mode):
    # constant folding does not reach these: rows 0 and 1 have the values, row 2 has nulls
    columns = [f"CASE id WHEN 0 THEN {a} WHEN 1 THEN {b} END AS {name}_in" for name, (a, b) in ROUND_TRIPS.items()]
    values = spark.range(3).selectExpr("id", *columns)
    results = values.selectExpr("*", *(f"{PREFIX}{name}({name}_in) AS {name}_out" for name in ROUND_TRIPS))
    for name in ROUND_TRIPS:
        types = {results.schema[f"{name}_{way}"].dataType.simpleString() for way in ("in", "out")}
        assert len(types) == 1, name
    same = [f"to_json(struct({name}_in AS x)) = to_json(struct({name}_out AS x)) AS {name}" for name in ROUND_TRIPS]
    rows = results.orderBy("id").selectExpr(*same).collect()
    assert [{name for name in ROUND_TRIPS if not row[name]} for row in rows] == [set(), set(), set()]
    absent = results.where("id = 2").select(*(f"{name}_out" for name in ROUND_TRIPS)).first()
    assert set(absent) == {None}


def test_every_function_is_tried(functions):
    names = {name for name in vars(functions) if name.startswith("of_")} - {"of_seconds"}
    assert names == set(ROUND_TRIPS)


def test_what_java_sees_and_makes_is_what_spark_means(spark, mode):
    view = """SELECT DATE'1582-10-04' + CAST(id AS INT) AS d,
        TIMESTAMP_NTZ'1969-12-31 23:59:50' + make_dt_interval(0, 0, 0, id) AS n,
        TIMESTAMP'2024-02-29 23:59:50Z' AS i, INTERVAL '1 02:03:04' DAY TO SECOND * id AS span,
        CAST(id / 8 AS DECIMAL(10, 3)) AS p, IF(id % 2 = 0, 'RED', 'GREEN') AS c, array(CAST(id AS INT), NULL) AS list
        FROM range(20)"""
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    columns = [f"{java} AS java{i}, {built_in} AS spark{i}" for i, (java, built_in) in enumerate(BOTH_WAYS)]
    rows = spark.sql(f"SELECT {', '.join(columns)} FROM ({view})").collect()
    for i, pair in enumerate(BOTH_WAYS):
        for row in rows[12:]:
            assert row[f"java{i}"] == row[f"spark{i}"], pair


def test_a_result_is_nullable_only_where_it_can_be_absent(spark):
    ids = spark.range(3).selectExpr("CAST(id AS INT) AS n", "IF(id = 0, NULL, CAST(id AS INT)) AS maybe")
    schema = ids.selectExpr("t_of_int(n) a", "t_of_int(maybe) b", "t_of_optional_int(n) c").schema
    assert [field.nullable for field in schema] == [False, True, True]
    lists = ids.selectExpr("t_of_list(array('a')) a", "t_of_list(array('a', NULL)) b", "t_size(array(maybe)) c").schema
    assert [field.nullable for field in lists] == [False, True, False]
    assert lists["a"].dataType.containsNull is False


def test_a_null_that_the_type_has_no_room_for_makes_the_result_null(spark, mode):
    row = spark.range(1).selectExpr(
        "t_of_list(IF(id = 0, array('a', NULL), array('b'))) AS list",
        "t_of_int_array(IF(id = 0, array(1, NULL), array(1))) AS numbers",
        "t_of_record(IF(id = 0, named_struct('x', CAST(NULL AS INT), 'y', 1D), NULL)) AS record",
        "t_of_enum(IF(id = 0, 'PINK', 'RED')) AS enum",
        "t_of_optional_enum(IF(id = 0, 'PINK', 'RED')) AS optional_enum",
        "t_of_map_of_lists(IF(id = 0, map(1, CAST(NULL AS ARRAY<STRING>)), map(1, array('a')))) AS map",
    )
    assert row.first() == (None,) * 6
