"""Whole builds over small sources, compared with Spark's result of the same query over the bytes themselves."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from chispa import assert_df_equality
from deltalake import DeltaTable

from headrace.dataset.build import build
from headrace.dataset.query.absence import CAUSES
from headrace.dataset.query.media import find_leaves
from headrace.dataset.query.placement import Rows
from headrace.dataset.query.samples import run_query
from headrace.errors import DataError, RecipeError
from headrace.recipe.dataset import Source
from tests.dataset.conftest import QUERY, expected, png, recipe, row, written


def rows(count: int = 24) -> list[dict]:
    return [row(i, conditions=i % 3) for i in range(count)]


# One query for each way that media pass through a query, because each takes a second or two.
QUERIES = {
    "explode": QUERY,
    "no media": "SELECT id, caption FROM source LATERAL VIEW explode(captions) t AS caption",
    "one leaf": "SELECT id, image FROM source WHERE id < 'id010'",
    "coalesce": "SELECT id, coalesce(c.image, image) AS image FROM source "
    "LATERAL VIEW OUTER explode(conditions) t AS c",
    "is null": "SELECT id, image, conditions[0].image IS NULL AS bare FROM source",
    "group": "SELECT id, first(image) AS image, count(*) AS n FROM source "
    "LATERAL VIEW explode(captions) t AS x GROUP BY id",
    "union": "SELECT id, image FROM source UNION ALL "
    "SELECT id, conditions[0].image FROM source WHERE size(conditions) > 0",
    "self join": "SELECT a.id, a.image, b.caption FROM source a JOIN "
    "(SELECT id, caption FROM source LATERAL VIEW explode(captions) t AS caption) b ON a.id = b.id",
    "pairs": "SELECT a.id, a.image, b.image AS other, b.conditions[0].image AS third FROM source a JOIN source b "
    "ON CAST(substr(a.id, 3) AS INT) + 7 = CAST(substr(b.id, 3) AS INT)",
    "window": "SELECT id, image, lag(image) OVER (ORDER BY id) AS before FROM source",
    "equality": "SELECT id, image FROM source WHERE image = conditions[0].image OR image = image",
    "distinct": "SELECT DISTINCT image FROM source",
    "subquery": "SELECT id, image FROM source WHERE image IN (SELECT image FROM source WHERE id < 'id005')",
    "bytes": "SELECT id, image, length(image) AS size FROM source",
    "nested": "SELECT id, image, named_struct('c', conditions[0].image) AS c FROM source",
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_gives_the_rows_of_the_query(spark, parquet, tmp_path: Path, query: str) -> None:
    source = parquet(rows())
    summary = build(spark, recipe(source, tmp_path / "out", query))
    frame = written(spark, tmp_path / "out")
    assert_df_equality(
        frame.drop("sample_id"), expected(spark, source, query), ignore_row_order=True, ignore_nullable=True
    )
    assert summary.rows == frame.count()
    assert frame.select("sample_id").distinct().count() == summary.rows


BY_VALUE = {"bytes", "nested", "equality", "distinct", "subquery"}


@pytest.mark.parametrize("name", QUERIES)
def test_media_travel_by_reference_unless_bytes_matter(spark, parquet, tmp_path: Path, name: str) -> None:
    source = spark.read.parquet(str(parquet(rows(2))))
    with run_query(source, QUERIES[name], find_leaves(source.schema), Rows("id")) as samples:
        assert (samples.by_value is not None) == (name in BY_VALUE), samples.by_value


@pytest.mark.parametrize("query", [QUERY, QUERIES["bytes"]])
def test_stores_each_image_once(spark, parquet, tmp_path: Path, query: str) -> None:
    many = [row(i, captions=[f"{i} {j}" for j in range(50)]) for i in range(12)]
    summary = build(spark, recipe(parquet(many), tmp_path / "out", query))
    images = {r["image"] for r in many} | (
        {c["image"] for r in many for c in r["conditions"]} if query == QUERY else set()
    )
    assert summary.media_bytes == sum(map(len, images))
    shards = list((tmp_path / "out").glob("*.parquet"))
    assert sum(pq.read_metadata(path).num_rows for path in shards) == summary.rows
    for path in shards:
        file = pq.ParquetFile(path)
        assert file.num_row_groups == 1
        column = next(c for c in file.metadata.row_group(0).to_dict()["columns"] if c["path_in_schema"] == "image")
        assert "RLE_DICTIONARY" in column["encodings"]
        table = pq.read_table(path, read_dictionary=["image"])
        dictionary = table["image"].combine_chunks().dictionary
        assert len(dictionary) == len(set(dictionary.to_pylist())) == len(set(table["id"].to_pylist()))


def test_equal_images_share_an_entry(spark, parquet, tmp_path: Path) -> None:
    same = [{**row(i), "image": png(0)} for i in range(6)]
    build(spark, recipe(parquet(same), tmp_path / "out", shards={"target_bytes": 1 << 20}))
    (path,) = (tmp_path / "out").glob("*.parquet")
    table = pq.read_table(path, read_dictionary=["image"])
    assert table["image"].combine_chunks().dictionary.to_pylist() == [png(0)]
    assert set(table["id"].to_pylist()) == {f"id{i:03d}" for i in range(6)}


def test_two_builds_give_the_same_rows_in_the_same_shards(spark, parquet, tmp_path: Path) -> None:
    source = parquet(rows())
    tables = []
    for name, partitions in (("a", "1"), ("b", "3")):
        spark.conf.set("spark.sql.shuffle.partitions", partitions)
        build(spark, recipe(source, tmp_path / name))
        tables.append([pq.read_table(path) for path in sorted((tmp_path / name).glob("*.parquet"))])
    spark.conf.set("spark.sql.shuffle.partitions", "2")
    first, second = tables
    assert len(first) == len(second) > 1
    assert all(a.equals(b) for a, b in zip(first, second, strict=True))


def test_the_seed_moves_rows_and_keeps_their_ids(spark, parquet, tmp_path: Path) -> None:
    source = parquet(rows())
    ids = []
    for seed in (1, 2):
        build(spark, recipe(source, tmp_path / str(seed), shuffle={"key": "id", "seed": seed}))
        files = sorted((tmp_path / str(seed)).glob("*.parquet"))
        ids.append(np.concatenate([pq.read_table(path)["sample_id"].to_numpy() for path in files]))
    assert sorted(ids[0]) == sorted(ids[1])
    assert (ids[0] != ids[1]).mean() > 0.5


def test_equal_rows_are_kept_with_ids_of_their_own(spark, parquet, tmp_path: Path) -> None:
    query = "SELECT id, image, caption FROM source LATERAL VIEW explode(captions) t AS caption"
    build(spark, recipe(parquet([row(0, ["same"] * 5), row(1, ["same"] * 3)]), tmp_path / "out", query))
    found = written(spark, tmp_path / "out").collect()
    assert Counter(r["id"] for r in found) == {"id000": 5, "id001": 3}
    assert len({r["sample_id"] for r in found}) == 8


def test_a_rebuild_replaces_in_one_version(spark, parquet, tmp_path: Path) -> None:
    source, output = parquet(rows()), tmp_path / "out"
    first = build(spark, recipe(source, output))
    second = build(spark, recipe(source, output, QUERIES["one leaf"]))
    assert (first.version, second.version) == (0, 1)
    table = DeltaTable(str(output))
    assert written(spark, output).count() == 10
    assert table.to_pyarrow_table().num_rows == 10
    assert DeltaTable(str(output), version=0).to_pyarrow_table().num_rows == first.rows
    metadata = table.history(1)[0]
    assert metadata["headrace.rows"] == "10"
    assert metadata["headrace.rows_in"] == "24"


def test_the_log_knows_the_rows_of_each_shard(spark, parquet, tmp_path: Path) -> None:
    summary = build(spark, recipe(parquet(rows()), tmp_path / "out"))
    actions = pa.table(DeltaTable(str(tmp_path / "out")).get_add_actions(flatten=True)).to_pylist()
    assert sum(action["num_records"] for action in actions) == summary.rows
    for action in actions:
        table = pq.read_table(tmp_path / "out" / action["path"])
        assert action["num_records"] == table.num_rows
        assert action["null_count.caption"] == table["caption"].null_count
        assert action["min.sample_id"] == min(table["sample_id"].to_pylist())


BROKEN = {
    "truncated": (lambda image: image[: len(image) // 2], "truncated"),
    "not an image": (lambda image: b"<html>" + image, "unknown format"),
    "missing": (lambda image: None, "missing"),
    "empty": (lambda image: b"", "empty"),
}


@pytest.mark.parametrize(("damage", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_bad_image_fails_the_build_and_commits_nothing(spark, parquet, tmp_path: Path, damage, reason: str) -> None:
    bad = rows(6)
    bad[3]["image"] = damage(bad[3]["image"])
    source, output = parquet(bad), tmp_path / "out"
    with pytest.raises(DataError, match=reason) as error:
        build(spark, recipe(source, output))
    assert "id003" in str(error.value)
    assert "\n" not in str(error.value)
    assert not list(output.glob("**/*.parquet"))
    assert not (output / "_delta_log").exists()


@pytest.mark.parametrize(("damage", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_a_bad_image_is_dropped_and_counted(spark, parquet, tmp_path: Path, damage, reason: str) -> None:
    bad = rows(6)
    bad[3]["image"] = damage(bad[3]["image"])
    summary = build(spark, recipe(parquet(bad), tmp_path / "out", on_bad_row="drop"))
    (text,) = summary.dropped
    assert reason in text
    assert summary.dropped[text] == summary.samples - summary.rows == 2
    assert {r["id"] for r in written(spark, tmp_path / "out").collect()} == {f"id{i:03d}" for i in (0, 1, 2, 4, 5)}


def test_a_bad_image_is_found_by_value_too(spark, parquet, tmp_path: Path) -> None:
    bad = rows(3)
    bad[1]["image"] = bad[1]["image"][:40]
    with pytest.raises(DataError, match="image: truncated \\(key id001"):
        build(spark, recipe(parquet(bad), tmp_path / "out", QUERIES["bytes"]))


def test_a_bad_condition_drops_its_rows_alone(spark, parquet, tmp_path: Path) -> None:
    bad = [row(i) for i in range(3)]
    bad[1]["conditions"][0]["image"] = b"GIF89a"
    summary = build(spark, recipe(parquet(bad), tmp_path / "out", on_bad_row="drop"))
    assert summary.dropped == {"condition: truncated": 2}
    kinds = Counter(r["kind"] for r in written(spark, tmp_path / "out").where("id = 'id001'").collect())
    assert kinds == {"kind1": 2}


def test_null_and_repeated_keys_are_found_first(spark, parquet, tmp_path: Path) -> None:
    repeated = [*rows(4), row(2)]
    with pytest.raises(DataError, match="'id002' ×2"):
        build(spark, recipe(parquet(repeated), tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_null_keys_are_counted(spark, parquet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 of 3 rows with null in 'id'"):
        build(spark, recipe(parquet([*rows(2), {**row(2), "id": None}]), tmp_path / "out"))


WRONG = {
    "unknown column": ("SELECT pixels FROM source", "pixels"),
    "syntax": ("SELEC id FROM source", "dataset.query"),
    "two columns": ("SELECT id, image, image FROM source", "two columns named 'image'"),
    "reserved": ("SELECT 1 AS sample_id, image FROM source", "sample_id"),
    "unknown table": ("SELECT * FROM sauce", "sauce"),
}


@pytest.mark.parametrize(("query", "named"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_query_is_one_clear_line(spark, parquet, tmp_path: Path, query: str, named: str) -> None:
    with pytest.raises(RecipeError) as error:
        build(spark, recipe(parquet(rows(2)), tmp_path / "out", query))
    assert named in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_query_that_fails_as_it_runs_is_one_clear_line(spark, parquet, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no good") as error:
        build(
            spark,
            recipe(parquet(rows(2)), tmp_path / "out", "SELECT string(raise_error('no good')) AS x, image FROM source"),
        )
    assert "\n" not in str(error.value)


def test_a_source_without_the_key_or_at_all(spark, parquet, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no column 'name' in the source, expected one of id, image"):
        build(spark, recipe(parquet(rows(2)), tmp_path / "out", shuffle={"key": "name"}))
    with pytest.raises(RecipeError, match=r"dataset\.source\.table: found 'nowhere'"):
        build(spark, recipe(tmp_path, tmp_path / "out").model_copy(update={"source": Source(table="nowhere")}))
    with pytest.raises(RecipeError, match=r"dataset\.source\.path"):
        build(spark, recipe(tmp_path / "nothing", tmp_path / "out"))


def test_an_output_that_holds_something_else_is_left_alone(spark, parquet, tmp_path: Path) -> None:
    source = parquet(rows(2))
    folder, file = tmp_path / "theirs", tmp_path / "file"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    file.write_text("more")
    for output in (folder, file):
        with pytest.raises(RecipeError, match=r"dataset\.output\.path"):
            build(spark, recipe(source, output))
    assert [p.name for p in folder.iterdir()] == ["thesis.txt"]
    assert file.read_text() == "more"


def test_absence_has_three_causes(spark, parquet, tmp_path: Path) -> None:
    query = """
    SELECT id, image, clean(caption) AS caption, element_at(m, 'b') AS b, upper(element_at(m, 'a')) AS a
    FROM (SELECT *, map('a', captions[0]) AS m FROM source) s LATERAL VIEW OUTER explode(captions) t AS caption
    """
    absent = [row(0, [":red_heart:"]), row(1, []), row(2, [None]), row(3, [" "]), {**row(4), "captions": None}]
    made = recipe(parquet(absent), tmp_path / "out", query, udfs=["headrace.Captions"])
    absence = build(spark, made).absence
    caption = {cause: absence["columns"]["caption"][cause] for cause in CAUSES}
    assert {cause: found["examples"] for cause, found in caption.items()} == {
        "structure": ["id001"],
        "data": ["id002", "id004"],
        "algorithm": ["id003"],
    }
    assert absence["columns"]["b"]["structure"]["count"] == 5
    assert absence["columns"]["a"]["data"]["count"] == 3
    (call,) = absence["functions"]
    assert (call["function"], call["values"], call["data"], call["algorithm"]) == ("clean", 1, 3, 1)


def test_absence_is_counted_with_examples(spark, parquet, tmp_path: Path) -> None:
    absent = [row(0), row(1, captions=[]), row(2, captions=["a", None]), {**row(3), "captions": None}]
    summary = build(spark, recipe(parquet(absent), tmp_path / "out"))
    saved = json.loads((tmp_path / "out" / "_headrace" / f"absence-{summary.version}.json").read_text())
    columns = saved["columns"]
    assert columns["caption"]["nulls"] == 6
    assert columns["caption"]["structure"] == {"count": 2, "examples": ["id001"]}
    assert columns["caption"]["data"] == {"count": 4, "examples": ["id002", "id003"]}
    assert columns["position"]["nulls"] == 4
    assert columns["id"]["nulls"] == 0


FAILING = "SELECT id, image, b_failing(caption) AS result FROM source LATERAL VIEW explode(captions) t AS caption"


def test_an_exception_of_a_java_function_ends_the_build(spark, parquet, acme_jar: Path, tmp_path: Path) -> None:
    source = parquet([row(0), row(1, captions=["checked"])])
    java = {"udfs": ["acme.Calls"], "jars": [acme_jar.as_uri()]}
    with pytest.raises(RecipeError, match=r"^dataset\.udfs: acme\.Calls\.sum would be sum in SQL, .* choose a prefix$"):
        build(spark, recipe(source, tmp_path / "out", FAILING, **java))
    java["udfs"] = [{"name": "acme.Calls", "prefix": "b_"}]
    with pytest.raises(DataError, match=r"failing.*checked.*disk is full") as caught:
        build(spark, recipe(source, tmp_path / "out", FAILING, **java))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out" / "_delta_log").exists()


def test_or_is_absent_and_counted(spark, parquet, acme_jar: Path, tmp_path: Path) -> None:
    source = parquet([row(0), row(1, captions=["checked", "fine", "unchecked"])])
    java = {"udfs": [{"name": "acme.Calls", "prefix": "b_"}], "jars": [str(acme_jar)], "on_udf_error": "absent"}
    summary = build(spark, recipe(source, tmp_path / "out", FAILING, **java))
    (call,) = summary.absence["functions"]
    assert (call["function"], call["values"], call["failure"]) == ("b_failing", 3, 2)
    assert call["examples"]["failure"] == ["id001", "id001"]
    assert summary.absence["columns"]["result"]["algorithm"]["count"] == 2


def test_an_id_depends_on_the_row_alone(spark, parquet, tmp_path: Path) -> None:
    branches = [
        "SELECT id, image, 'x' AS a, NULL AS b FROM source",
        "SELECT id, image, NULL AS a, 'x' AS b FROM source",
    ]
    found = []
    for number, both in enumerate([branches, branches[::-1]]):
        made = recipe(
            tmp_path / "source" if number else parquet([row(0)]), tmp_path / str(number), " UNION ALL ".join(both)
        )
        build(spark, made)
        found.append({(r["a"], r["b"]): r["sample_id"] for r in written(spark, tmp_path / str(number)).collect()})
    assert found[0] == found[1]
    assert len(set(found[0].values())) == 2
