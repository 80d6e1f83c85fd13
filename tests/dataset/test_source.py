"""Every kind of source gives the same dataset."""

import base64
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from headrace.dataset.build import build
from headrace.dataset.source.reader import NO_LINE, open_source
from headrace.dataset.version.commit import open_table
from headrace.errors import DataError, RecipeError
from headrace.recipe.dataset import Source
from tests.dataset.conftest import SCHEMA, png, recipe, row

ROWS = [row(i, captions=None if i else []) for i in range(3)]


def orc(spark, folder: Path) -> None:
    spark.read.parquet(str(folder.parent / "source")).write.orc(str(folder))


def delta(spark, folder: Path) -> None:
    write_deltalake(str(folder), pa.Table.from_pylist([row(9)], SCHEMA))
    write_deltalake(str(folder), pa.Table.from_pylist(ROWS, SCHEMA), mode="overwrite")


@pytest.mark.parametrize("make", [orc, delta])
def test_files_of_other_formats(spark, parquet, tmp_path: Path, make) -> None:
    expected = spark.read.parquet(str(parquet(ROWS))).collect()
    make(spark, tmp_path / "other")
    found = open_source(spark, Source(path=str(tmp_path / "other"), format=make.__name__)).frame
    assert sorted(found.collect()) == sorted(expected)


def test_json_lines_with_images_in_base64(spark, tmp_path: Path) -> None:
    query = "SELECT id, unbase64(image) AS image, explode(captions) AS caption FROM source"
    spark.createDataFrame(pa.Table.from_pylist(ROWS, SCHEMA)).selectExpr(
        "id", "base64(image) AS image", "captions"
    ).write.json(str(tmp_path / "lines"))
    made = recipe(
        tmp_path / "lines", tmp_path / "out", query, source={"path": str(tmp_path / "lines"), "format": "json"}
    )
    summary = build(spark, made)
    assert summary.media_bytes == sum(len(r["image"]) for r in ROWS if r["captions"])
    rows = DeltaTable(str(tmp_path / "out")).to_pyarrow_table().to_pylist()
    assert {(r["id"], r["image"]) for r in rows} == {(r["id"], r["image"]) for r in ROWS if r["captions"]}


def test_a_delta_table_with_partitions_and_a_later_column(spark, tmp_path: Path) -> None:
    path, days = str(tmp_path / "delta"), ["2026-11-22 00:00", "a=b/c%", None]
    write_deltalake(path, pa.table({"id": ["0", "1", "2"], "ds": pa.array(days)}), partition_by=["ds"])
    later = pa.table({"id": ["3"], "ds": ["late"], "size": pa.array([5], pa.int64())})
    write_deltalake(path, later, partition_by=["ds"], mode="append", schema_mode="merge")
    opened = open_source(spark, Source(path=path, format="delta"))
    assert opened.described == {"path": path, "format": "delta", "version": 1}
    expected = DeltaTable(path).to_pyarrow_table().to_pylist()
    assert sorted(map(repr, (r.asDict() for r in opened.frame.collect()))) == sorted(map(repr, expected))
    assert opened.frame.where("ds = 'late'").collect() == [("3", "late", 5)]
    DeltaTable(path).delete()
    assert open_source(spark, Source(path=path, format="delta")).frame.collect() == []


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"delta.enableDeletionVectors": "true"}, "deletionVectors"),
        ({"delta.columnMapping.mode": "name"}, "columnMapping"),
        ({"delta.columnMapping.mode": "id"}, "columnMapping"),
    ],
)
def test_a_delta_table_that_is_more_than_its_files(spark, tmp_path: Path, setting: dict[str, str], named: str) -> None:
    DeltaTable.create(str(tmp_path / "delta"), pa.schema([("id", pa.string())]), configuration=setting)
    with pytest.raises(RecipeError, match=f"found Delta features {named}"):
        open_source(spark, Source(path=str(tmp_path / "delta"), format="delta"))
    with pytest.raises(RecipeError, match=rf"dataset\.output\.path: found Delta features {named}"):
        open_table(str(tmp_path / "delta"))


def test_a_delta_table_whose_log_names_files_elsewhere(spark, tmp_path: Path) -> None:
    path = tmp_path / "delta"
    write_deltalake(str(path), pa.table({"id": ["0"]}))
    (file,) = path.glob("*.parquet")
    file.rename(tmp_path / file.name)
    log = path / "_delta_log" / f"{0:020d}.json"
    log.write_text(log.read_text().replace(file.name, f"file:{tmp_path}/{file.name}"))
    assert open_source(spark, Source(path=str(path), format="delta")).frame.collect() == [("0",)]
    log.write_text(log.read_text().replace(f"file:{tmp_path}", "%2e%2e"))
    with pytest.raises(DataError, match=r"dataset\.source\.path: .*'%2e%2e/.*expected one inside the table"):
        open_source(spark, Source(path=str(path), format="delta"))


def test_avro_by_hives_reader_and_without_sparks(spark, parquet, tmp_path: Path) -> None:
    """Spark's Avro module is not among pyspark's jars. Hive's is."""
    source = parquet(ROWS)
    spark.read.parquet(str(source)).createOrReplaceTempView("source_of_avro")
    spark.sql("CREATE TABLE avro_photos STORED AS AVRO AS SELECT * FROM source_of_avro")
    made = recipe(source, tmp_path / "out", source={"table": "avro_photos"})
    assert build(spark, made).rows == build(spark, recipe(source, tmp_path / "parquet")).rows
    columns = ["id", "image", "caption", "kind", "condition"]
    of_avro, of_parquet = (
        DeltaTable(str(tmp_path / name)).to_pyarrow_table(columns=columns).to_pylist() for name in ("out", "parquet")
    )
    assert sorted(map(repr, of_avro)) == sorted(map(repr, of_parquet))
    assert build(spark, made).unchanged
    spark.sql("INSERT INTO avro_photos SELECT 'id9', image, captions, conditions FROM source_of_avro LIMIT 1")
    assert build(spark, made).version == 1, "files in a table's folder are seen"
    expected = rf"found avro.*org\.apache\.spark:spark-avro_2\.13:{spark.version}"
    with pytest.raises(RecipeError, match=expected):
        open_source(spark, Source(path=str(source), format="avro"))


def test_files_that_are_broken(spark, parquet, tmp_path: Path) -> None:
    source = parquet(ROWS)
    file = source / "part-0.parquet"
    whole = file.read_bytes()
    file.write_bytes(whole[:-100])
    with pytest.raises(DataError, match=r"dataset\.source\.path: .*part-0\.parquet"):
        open_source(spark, Source(path=str(source)))
    (source / "part-1.parquet").write_bytes(whole)
    spark.catalog.refreshByPath(str(source))
    with pytest.raises(DataError, match=r"dataset\.source.*part-0\.parquet"):
        build(spark, recipe(source, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_columns_of_one_name_and_two_types(spark, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name, kind in (("a", pa.int32()), ("b", pa.int64())):
        table = pa.table({"id": [name], "n": pa.array([1], kind), "image": [png(0)]})
        pa.parquet.write_table(table, tmp_path / "in" / f"{name}.parquet")
    with pytest.raises(DataError, match=r"^dataset\.source: \[FAILED_READ_FILE.*b\.parquet.*\[n\]") as error:
        build(spark, recipe(tmp_path / "in", tmp_path / "out", "SELECT id, n, image FROM source"))
    assert "\n" not in str(error.value)


def test_lines_that_are_not_json(spark, tmp_path: Path) -> None:
    line = '{"id": "a", "image": "' + base64.b64encode(png(0)).decode() + '", "deep": '
    broken = [line + "[" * 3000 + "]" * 3000 + "}", line, "<html>", "\0"]
    (tmp_path / "lines.json").write_text("\n".join([line + "1}", *broken]))
    source = {"path": str(tmp_path / "lines.json"), "format": "json"}
    query = "SELECT id, unbase64(image) AS image FROM source"
    summary = build(spark, recipe(tmp_path, tmp_path / "out", query, source=source, on_bad_row="drop"))
    assert (summary.rows, summary.rows_in, summary.dropped_rows) == (1, 5, {NO_LINE: 4})
    with pytest.raises(DataError, match=r"^dataset\.source: found bad row: line that is not JSON"):
        build(spark, recipe(tmp_path, tmp_path / "out", query, source=source))


QUERIES = {
    "SELECT id, image, capton FROM source": r"\[UNRESOLVED_COLUMN.*`capton`.*`captions`",
    "SELECT id, image FROM sorce": r"\[TABLE_OR_VIEW_NOT_FOUND\].*`sorce`",
    "SELECT id, image, nothing(id) AS x FROM source": r"\[UNRESOLVED_ROUTINE\].*`nothing`",
    "SELECT id, image FROM source LATERAL VIEW explode(id) t AS x": r"\[DATATYPE_MISMATCH.*explode\(id\)",
    "SELEC 1": r"\[PARSE_SYNTAX_ERROR\].*'SELEC'.*expected one SELECT",
    "DROP TABLE kept": "expected one SELECT",
    "SELECT id, image FROM source; DROP TABLE kept": "expected one SELECT",
    "INSERT INTO kept SELECT id FROM source": "expected one SELECT",
}


@pytest.mark.parametrize("query", QUERIES)
def test_a_wrong_query_is_one_line(spark, parquet, tmp_path: Path, query: str) -> None:
    spark.sql("CREATE TABLE IF NOT EXISTS kept AS SELECT 'id' AS id")
    with pytest.raises(RecipeError, match=f"^dataset.query: .*{QUERIES[query]}") as found:
        build(spark, recipe(parquet(ROWS), tmp_path / "out", query))
    assert "\n" not in str(found.value)
    assert "SQLSTATE" not in str(found.value)
    assert not (tmp_path / "out").exists()
    assert spark.table("kept").count() == 1


@pytest.mark.parametrize("name", ["__dropped", "__PLACE"])
def test_a_source_has_no_column_that_a_build_adds_itself(spark, parquet, tmp_path: Path, name: str) -> None:
    """A value in `__dropped` would leave out its row."""
    spark.read.parquet(str(parquet(ROWS))).selectExpr("*", f"IF(id = 'id001', 'x', NULL) AS {name}").write.parquet(
        str(tmp_path / "named")
    )
    with pytest.raises(RecipeError, match=f"found a column '{name}', which a build adds itself, expected another name"):
        build(spark, recipe(tmp_path / "named", tmp_path / "out"))
