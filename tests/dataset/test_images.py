"""What recipes compute from images before the query: facts, conditions, dropped rows; and how rows go to shards."""

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.dataset.build import build
from headrace.dataset.images.derive import decoded
from headrace.dataset.images.duplicates import near_duplicates
from headrace.dataset.images.stage import HASH, PIXELS, without_near_duplicates
from headrace.errors import DataError, RecipeError
from headrace.images.hashes import content_hash, perceptual_hash
from headrace.images.headers import MAX_PIXELS, dimensions
from headrace.recipe.dataset import Dataset, Images
from tests.dataset.conftest import png, recipe, row, written

HOOK = "tests.dataset.test_derive:inverted"


def smooth(seed: int, side: int = 64) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    return cv2.resize(small, (side, side), interpolation=cv2.INTER_CUBIC)


def encoded(pixels: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def test_facts_and_conditions_are_columns_of_the_query(spark, parquet, tmp_path: Path) -> None:
    source = [row(i) for i in range(4)]
    source[1]["image"] = encoded(smooth(1, 20), ".jpg")
    query = """
    SELECT id, image, format, width, height, content_hash, perceptual_hash, c.kind, c.image AS condition
    FROM source LATERAL VIEW explode(conditions) t AS c WHERE width < 30
    """
    images = {
        "facts": ["format", "width", "height", "content_hash", "perceptual_hash"],
        "conditions": ["edges", "grayscale", "lowres", "palette", "silhouette", HOOK],
        "lowres_side": 4,
        "palette_colors": 3,
    }
    summary = build(spark, recipe(parquet(source), tmp_path / "out", query, images=images))
    assert summary.by_value is None
    rows = written(spark, tmp_path / "out").collect()
    # The source's own two conditions come first. The images have no alpha, so they have no silhouette.
    kinds = ["kind0", "kind1", "edges", "grayscale", "lowres", "palette", "inverted"]
    assert Counter(r["kind"] for r in rows) == dict.fromkeys(kinds, 4)
    for r in rows:
        image = next(s["image"] for s in source if s["id"] == r["id"])
        assert r["image"] == image
        side = 20 if r["id"] == "id001" else 8
        assert (r["format"], r["width"], r["height"]) == ("jpeg" if side == 20 else "png", side, side)
        assert r["content_hash"] == content_hash(image)
        assert r["perceptual_hash"] == perceptual_hash(decoded(image))
        found = decoded(r["condition"])
        if r["kind"] == "lowres":
            assert found.shape[:2] == (4, 4)
        if r["kind"] == "palette":
            assert len(np.unique(found.reshape(-1, 3), axis=0)) <= 3
        if r["kind"] == "inverted":
            assert (found == 255 - decoded(image)).all()


def test_images_are_looked_at_once_and_before_they_are_exploded(spark, parquet, tmp_path: Path) -> None:
    """The hook returns a new value each time it is called, yet all samples of a row have the same one."""
    source = parquet([row(i, [f"{j}" for j in range(30)]) for i in range(5)])
    images = {"conditions": ["tests.dataset.hooks:counting"], "into": "made"}
    query = """
    SELECT id, image, caption, m.image AS made FROM source
    LATERAL VIEW explode(captions) t AS caption LATERAL VIEW explode(made) u AS m
    """
    assert build(spark, recipe(source, tmp_path / "out", query, images=images)).rows == 150
    assert written(spark, tmp_path / "out").select("id", "made").distinct().count() == 5


def test_rows_are_left_out_by_reason(spark, parquet, tmp_path: Path) -> None:
    source = [row(i) for i in range(6)]
    source[1]["image"] = png(1, side=3)
    source[2]["image"] = source[2]["image"][:40]
    source[3]["image"] = None
    bomb = bytearray(source[4]["image"])
    bomb[16:24] = (100_000).to_bytes(4, "big") * 2
    source[4]["image"] = bytes(bomb)
    query = "SELECT id, image FROM source"
    images = {"drop_undecodable": True, "min_side": 4}
    summary = build(spark, recipe(parquet(source), tmp_path / "out", query, images=images))
    assert summary.rows_in == 6
    assert summary.dropped_rows == {"image cannot be decoded": 3, "image has a side shorter than 4": 1}
    assert {r["id"] for r in written(spark, tmp_path / "out").collect()} == {"id000", "id005"}
    assert json.loads(DeltaTable(str(tmp_path / "out")).history(1)[0]["headrace.dropped_rows"]) == summary.dropped_rows


def test_facts_conditions_and_drops_of_images_inside_structs(spark, tmp_path: Path) -> None:
    """HuggingFace stores an image as struct<bytes, path>."""
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": png(0), "path": "0.png"}, {"bytes": png(1, side=3), "path": None}, None, {"bytes": png(0)}]
    ids = [str(i) for i in range(4)]
    (tmp_path / "source").mkdir()
    pq.write_table(pa.table({"id": ids, "image": pa.array(images, struct)}), tmp_path / "source/part-0.parquet")
    query = "SELECT id, image.bytes AS image, image.path, width, c.image AS edges FROM source "
    query += "LATERAL VIEW explode(conditions) t AS c"
    section = {"column": "image.bytes", "facts": ["width"], "conditions": ["edges"], "min_side": 4}
    section |= {"drop_undecodable": True, "identical_once": True}
    summary = build(spark, recipe(tmp_path / "source", tmp_path / "out", query, images=section))
    assert summary.by_value is None
    rows = {r["id"]: (r["image"], r["path"], r["width"]) for r in written(spark, tmp_path / "out").collect()}
    assert rows == {"0": (png(0), "0.png", 8), "3": (png(0), None, 8)}
    assert summary.dropped_rows == {
        "image.bytes cannot be decoded": 1,
        "image.bytes has a side shorter than 4": 1,
    }


def test_a_build_takes_no_image_that_a_loader_calls_too_large(spark, parquet, tmp_path: Path) -> None:
    source = [row(i) for i in range(4)]
    source[0]["image"] = cv2.imencode(".png", np.zeros((1 << 14, 1 << 14), np.uint8), [cv2.IMWRITE_PNG_BILEVEL, 1])[1]
    source[0]["image"] = source[0]["image"].tobytes()
    for place, (width, height) in ((1, (1 << 14, (1 << 14) + 1)), (2, (1_000_001, 1))):
        header = bytearray(source[place]["image"])
        header[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
        source[place]["image"] = bytes(header)
    made = recipe(parquet(source), tmp_path / "out", "SELECT id, image FROM source", on_bad_row="drop")
    assert build(spark, made).dropped == {"image: too large": 2}
    rows = {r["id"]: np.frombuffer(r["image"], np.uint8) for r in written(spark, tmp_path / "out").collect()}
    assert {key: dimensions(image) for key, image in rows.items()} == {"id000": (1 << 14, 1 << 14), "id003": (8, 8)}
    lower = {"images": {"max_pixels": 63}, "output": {"path": str(tmp_path / "lower")}}
    with pytest.raises(DataError, match="image: too large"):
        build(spark, recipe(tmp_path / "source", tmp_path / "lower", "SELECT id, image FROM source", **lower))
    higher = {"images": {"max_pixels": MAX_PIXELS + 1}}
    with pytest.raises(
        RecipeError, match=rf"images\.max_pixels: found {MAX_PIXELS + 1}, expected at most {MAX_PIXELS}"
    ):
        build(spark, recipe(tmp_path / "source", tmp_path / "higher", "SELECT id, image FROM source", **higher))


def test_near_duplicates_of_a_source_with_a_column_key(spark) -> None:
    columns = f"key string, {HASH} long, {PIXELS} long"
    frame = spark.createDataFrame([("a", 1, 9), ("b", 1, 4), ("c", -1, 1)], columns)
    kept, gone = without_near_duplicates(frame, Images(drop_near_duplicates=1), "key")
    assert sorted(row["key"] for row in kept.collect()) == ["a", "c"]
    gone.unpersist()


def test_of_near_duplicates_the_larger_stays(spark, parquet, tmp_path: Path) -> None:
    looks = [smooth(0), smooth(1), smooth(2)]
    source = [row(i) for i in range(6)]
    source[0]["image"] = encoded(cv2.resize(looks[0], (32, 32), interpolation=cv2.INTER_AREA))
    source[1]["image"] = encoded(looks[0])
    source[2]["image"] = encoded(looks[0])
    source[3]["image"] = encoded(cv2.resize(looks[1], (32, 32), interpolation=cv2.INTER_AREA), ".jpg")
    source[4]["image"] = encoded(looks[1])
    source[5]["image"] = encoded(looks[2])
    query = "SELECT id, image, caption FROM source LATERAL VIEW explode(captions) t AS caption"
    made = recipe(parquet(source), tmp_path / "out", query, images={"drop_near_duplicates": 6})
    summary = build(spark, made)
    assert {r["id"] for r in written(spark, tmp_path / "out").collect()} == {"id001", "id004", "id005"}
    assert summary.dropped_rows == {"image nearly like another": 3}
    assert summary.rows_in == 6


hashes = st.integers(0, 7).map(lambda n: n * 0x0101010101010101) | st.integers(-(2**63), 2**63 - 1)


@pytest.mark.slow
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    base=st.lists(st.tuples(hashes, st.integers(1, 3)), min_size=1, max_size=6),
    flips=st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(0, 63), max_size=5)), max_size=8),
    distance=st.integers(0, 7),
)
def test_near_duplicates_agree_with_all_pairs(spark, base, flips, distance: int) -> None:
    content = list(base)
    for which, bits in flips:
        number, pixels = base[which % len(base)]
        for bit in bits:
            number ^= 1 << bit
        content.append(((number + 2**63) % 2**64 - 2**63, pixels))
    facts = [(f"k{i:02d}", number, pixels) for i, (number, pixels) in enumerate(content)]
    gone = near_duplicates(spark.createDataFrame(facts, "key string, hash long, pixels long"), distance)
    expected = {
        key
        for key, number, pixels in facts
        if any(
            ((number ^ other) & (2**64 - 1)).bit_count() <= distance and (-p, k) < (-pixels, key)
            for k, other, p in facts
        )
    }
    assert {r["key"] for r in gone.collect()} == expected


CAPTIONS = ["a cat", "a", "x" * 40, "a dog http://spam", "the cat sat", "a cat", None]


def test_captions_are_left_out_by_reason(spark, parquet, tmp_path: Path) -> None:
    query = "SELECT id, image, caption FROM source LATERAL VIEW explode(captions) t AS caption"
    captions = {
        "min_characters": 2,
        "max_characters": 30,
        "matching": "cat|dog",
        "not_matching": "https?:",
        "distinct": True,
    }
    source = parquet([row(0, CAPTIONS), row(1, ["a cat"]), row(2, []), {**row(3), "captions": None}])
    summary = build(spark, recipe(source, tmp_path / "out", query, captions=captions))
    kept = sorted(((r["id"], r["caption"]) for r in written(spark, tmp_path / "out").collect()), key=repr)
    assert kept == [("id000", "a cat"), ("id000", "the cat sat"), ("id000", None), ("id001", "a cat")]
    assert summary.dropped_captions == {
        "caption shorter than 2": 1,
        "caption longer than 30": 1,
        "caption matching https?:": 1,
        "caption repeated": 1,
    }


def test_captions_in_maps(spark, tmp_path: Path) -> None:
    spark.createDataFrame(
        [("a", bytearray(png(0)), {"en": ["one", "no"], "de": ["eins"]})],
        "id string, image binary, names map<string, array<string>>",
    ).write.parquet(str(tmp_path / "source"))
    query = (
        "SELECT id, image, k, name FROM source LATERAL VIEW explode(names) t AS k, v LATERAL VIEW explode(v) u AS name"
    )
    made = recipe(tmp_path / "source", tmp_path / "out", query, captions={"column": "names", "min_characters": 3})
    summary = build(spark, made)
    assert {(r["k"], r["name"]) for r in written(spark, tmp_path / "out").collect()} == {("en", "one"), ("de", "eins")}
    assert summary.dropped_captions == {"caption shorter than 3": 1}


def split_recipe(source: Path, output: Path, **more: object) -> Dataset:
    query = "SELECT id, image, caption FROM source LATERAL VIEW explode(captions) t AS caption"
    split = {"parts": {"validation": 0.25, "test": 0.1}}
    return recipe(source, output, query, split=split, output={"path": str(output), "partition": "split"}, **more)


def test_a_split_by_key_is_a_partition_of_the_table(spark, parquet, tmp_path: Path) -> None:
    source = [row(i) for i in range(120)]
    summary = build(spark, split_recipe(parquet(source), tmp_path / "out"))
    table = DeltaTable(str(tmp_path / "out"))
    assert table.metadata().partition_columns == ["split"]
    rows = table.to_pyarrow_table().to_pylist()
    assert len(rows) == summary.rows == 240
    counts = Counter(r["split"] for r in rows)
    # Within three standard deviations, for 120 rows.
    for part, share in {"train": 0.65, "validation": 0.25, "test": 0.1}.items():
        assert abs(counts[part] / 2 - 120 * share) < 3 * np.sqrt(120 * share * (1 - share))
    parts_of = {}
    for r in rows:
        parts_of.setdefault(r["id"], set()).add(r["split"])
    assert {len(parts) for parts in parts_of.values()} == {1}
    for action in pa.table(table.get_add_actions(flatten=True)).to_pylist():
        ids = set(pq.read_table(tmp_path / "out" / action["path"])["id"].to_pylist())
        assert {part for i in ids for part in parts_of[i]} == {action["partition.split"]}
    # A row keeps its part when other rows come and go, and a part can be rebuilt by itself.
    again = build(spark, split_recipe(tmp_path / "source", tmp_path / "again"), ("split", "test"))
    assert again.rows == counts["test"]


@pytest.mark.slow
def test_a_build_of_all_partitions_of_a_column(spark, parquet, tmp_path: Path) -> None:
    days = spark.read.parquet(str(parquet([row(i) for i in range(12)]))).selectExpr(
        "*", "if(id < 'id004', '2026-11-21', if(id < 'id010', '2026-11-22', NULL)) AS ds"
    )
    days.write.parquet(str(tmp_path / "days"))
    for query in ("SELECT id, ds, image FROM source", "SELECT id, ds, image, length(image) AS n FROM source"):
        output = tmp_path / str(len(query))
        made = recipe(tmp_path / "days", output, query, output={"path": str(output), "partition": "ds"})
        assert build(spark, made).rows == 12
        rows = DeltaTable(str(output)).to_pyarrow_table().to_pylist()
        assert Counter(r["ds"] for r in rows) == {"2026-11-21": 4, "2026-11-22": 6, None: 2}
    assert build(spark, made).unchanged
    one = build(spark, made, ("ds", "2026-11-22"))
    assert (one.rows, one.unchanged) == (6, False)
    assert DeltaTable(str(output)).to_pyarrow_table().num_rows == 12
    assert not build(spark, made, dry_run=True).unchanged
    assert build(spark, made).version == 2


def test_identical_images_meet_in_one_shard(spark, parquet, tmp_path: Path) -> None:
    source = [{**row(i), "image": png(i % 5)} for i in range(60)]
    query = "SELECT id, image, caption FROM source LATERAL VIEW explode(captions) t AS caption"
    made = recipe(
        parquet(source), tmp_path / "out", query, shards={"target_bytes": 1024}, images={"identical_once": True}
    )
    summary = build(spark, made)
    assert summary.shards > 1
    assert summary.media_bytes == sum(len(png(i)) for i in range(5))
    assert summary.rows == 120
    assert {(r["id"], bytes(r["image"])) for r in written(spark, tmp_path / "out").collect()} == {
        (r["id"], r["image"]) for r in source
    }


def test_very_many_identical_images_are_dealt_to_several_shards(spark, parquet, tmp_path: Path, monkeypatch) -> None:
    for module in ("survey", "write.job"):
        monkeypatch.setattr(f"headrace.dataset.{module}.HOT_SAMPLES", 40)
    source = [{**row(i, conditions=1), "image": png(0 if i < 150 else i)} for i in range(170)]
    query = "SELECT id, image, caption, c.image AS condition FROM source LATERAL VIEW explode(captions) t AS caption "
    query += "LATERAL VIEW explode(conditions) u AS c"
    more = {"shards": {"target_bytes": 4096}, "images": {"identical_once": True}}
    build(spark, recipe(parquet(source), tmp_path / "out", query, **more))
    tables = [pq.read_table(path) for path in (tmp_path / "out").glob("*.parquet")]
    having = [table for table in tables if png(0) in table["image"].to_pylist()]
    assert len(having) >= 4
    assert max(table.num_rows for table in having) < 300 / 2
    rows = {(r["id"], r["image"], r["condition"], r["caption"]) for table in tables for r in table.to_pylist()}
    assert rows == {(r["id"], r["image"], r["conditions"][0]["image"], c) for r in source for c in r["captions"]}


def test_a_repeated_key_is_found_where_images_differ(spark, parquet, tmp_path: Path) -> None:
    source = parquet([row(0), {**row(1), "id": "id000"}])
    with pytest.raises(DataError, match="'id000' ×2"):
        build(spark, recipe(source, tmp_path / "out", images={"identical_once": True}))


def test_rows_without_a_key_are_identified_by_file_and_place(spark, parquet, tmp_path: Path) -> None:
    same = [{**row(0), "id": "same", "image": png(i)} for i in range(6)]
    source = parquet(same)
    query = "SELECT * EXCEPT (conditions) FROM source"
    ids = []
    for name in "ab":
        build(spark, recipe(source, tmp_path / name, query, shuffle={"seed": 3}))
        rows = written(spark, tmp_path / name).collect()
        assert rows[0].asDict().keys() == {"sample_id", "id", "image", "captions"}
        assert {bytes(r["image"]) for r in rows} == {png(i) for i in range(6)}
        ids.append({r["sample_id"] for r in rows})
    assert ids[0] == ids[1]
    assert len(ids[0]) == 6


def test_a_source_without_row_numbers_needs_a_key(spark, tmp_path: Path) -> None:
    (tmp_path / "source.json").write_text('{"a": 1}')
    made = recipe(tmp_path / "source.json", tmp_path / "out", "SELECT a FROM source", shuffle={})
    made = made.model_copy(update={"source": made.source.model_copy(update={"format": "json"})})
    with pytest.raises(RecipeError, match=r"dataset\.shuffle\.key: found no key.*expected one of a"):
        build(spark, made)


def test_sample_ids_of_chosen_columns_outlive_corrections(spark, parquet, tmp_path: Path) -> None:
    query = "SELECT id, n, {} AS caption, image FROM source LATERAL VIEW posexplode(captions) t AS n, caption"
    source, ids = parquet([row(i) for i in range(4)]), []
    for name, expression in (("a", "caption"), ("b", "upper(caption)")):
        shuffle = {"key": "id", "sample": ["id", "n"]}
        build(spark, recipe(source, tmp_path / name, query.format(expression), shuffle=shuffle))
        ids.append({r["sample_id"]: (r["id"], r["n"]) for r in written(spark, tmp_path / name).collect()})
    assert ids[0] == ids[1]
    assert len(ids[0]) == 8


WRONG = {
    "no field": (
        {"images": {"column": "conditions.image", "facts": ["width"]}},
        r"dataset\.images\.column: found 'conditions.image', expected a binary column of the source: image$",
    ),
    "column": ({"images": {"column": "id", "facts": ["width"]}}, r"dataset\.images\.column: found 'id'"),
    "taken": ({"images": {"conditions": ["edges"], "into": "captions"}}, r"dataset\.images\.into: found 'captions'"),
    "kind": ({"images": {"conditions": ["sketch"]}}, "found 'sketch', expected kinds among silhouette"),
    "captions": ({"captions": {"column": "id"}}, r"dataset\.captions\.column: found 'id' of type string"),
    "pattern": ({"captions": {"matching": "("}}, r"dataset\.captions\.matching: found '\('"),
    "no captions": ({"captions": {"column": "texts"}}, "found no column 'texts' in the source, expected one of id"),
}


@pytest.mark.parametrize(("sections", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_recipes_are_one_clear_line(spark, parquet, tmp_path: Path, sections: dict, said: str) -> None:
    with pytest.raises(RecipeError, match=said) as error:
        build(spark, recipe(parquet([row(0)]), tmp_path / "out", **sections))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_a_build_whose_hook_fails_names_it(spark, parquet, tmp_path: Path) -> None:
    images = {"conditions": ["tests.dataset.test_derive:too_few"]}
    with pytest.raises(DataError, match="too_few: found 0 values for 1 rows") as error:
        build(spark, recipe(parquet([row(0)]), tmp_path / "out", images=images))
    assert "\n" not in str(error.value)
