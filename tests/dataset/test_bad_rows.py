"""Which columns of a dataset hold images, and which rows are bad: for every way to make a column, and every type."""

import base64
import hashlib
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql.types import StructType

from headrace.dataset.build import build
from headrace.dataset.query.media import HANDLE, ITEM
from headrace.dataset.query.samples import Samples
from headrace.dataset.write.bad_rows import count_bad_rows, image_paths
from headrace.errors import DataError, RecipeError
from headrace.recipe.dataset import Dataset
from tests.dataset.conftest import png, written

SOURCE = "id string, image binary, sha binary, conditions array<struct<kind string, image binary>>"


def samples(ddl: str) -> Samples:
    """The result of a query with the columns `ddl`, where HANDLE is the type of a handle."""
    schema = StructType.fromDDL(ddl.replace("HANDLE", HANDLE.simpleString()))
    frame = SimpleNamespace(schema=schema)
    return Samples(frame, (None,) * len(schema), tuple(schema.names), None, None, False)  # type: ignore[arg-type]


EVERY = "id string, sha binary, image HANDLE, hf struct<bytes: binary, path: string>, views map<string, array<binary>>"
EVERY_PATH = (("sha",), ("image",), ("hf", "bytes"), ("views", ITEM, ITEM))


def test_every_binary_column_holds_images_unless_the_recipe_says_otherwise(spark) -> None:
    source = StructType.fromDDL(SOURCE)
    assert image_paths(samples(EVERY), source, None, ()) == EVERY_PATH
    assert image_paths(samples(EVERY.replace("HANDLE", "binary")), source, None, ()) == EVERY_PATH
    assert image_paths(samples(EVERY), source, None, ("views", "sha")) == (("image",), ("hf", "bytes"))
    # `source.media` says that the other binary columns of the source are none
    assert image_paths(samples(EVERY), source, ("image",), ()) == EVERY_PATH[1:]
    assert image_paths(samples("SHA binary, thumb binary"), source, ("image",), ()) == (("thumb",),)
    nested = "conditions array<struct<kind: string, image: binary>>"
    assert image_paths(samples(nested), source, ("image",), ()) == ()
    assert image_paths(samples(nested), source, ("image", "conditions.image"), ()) == (("conditions", ITEM, "image"),)


def test_a_name_that_is_no_binary_column_is_one_line(spark) -> None:
    with pytest.raises(
        RecipeError, match=r"output\.not_images: found 'id', expected .*: sha, image, hf\.bytes, views$"
    ):
        image_paths(samples(EVERY), StructType.fromDDL(SOURCE), None, ("id",))


def counted(table: pa.Table, *images: tuple[str, ...], max_pixels: int | None = None) -> dict[str, list[int]]:
    """The bad rows for each reason."""
    found: dict[str, list[int]] = defaultdict(list)
    count_bad_rows(table, images, max_pixels, lambda why, where: found[why].extend(map(int, np.flatnonzero(where))))
    return {why: rows for why, rows in found.items() if rows}


GOOD, CUT = png(0), png(0)[:40]


def test_bad_values_are_found_at_every_depth() -> None:
    dictionary = pa.array([GOOD, CUT, None, b"", CUT, GOOD], pa.binary()).dictionary_encode()
    table = pa.table(
        {
            "image": dictionary,
            "hf": pa.array([None, {"bytes": None}, *({"bytes": x} for x in (GOOD, b"<html>", CUT, GOOD))]),
            "list": pa.array([None, [], [GOOD, None], [CUT], [GOOD, b"x"], [GOOD]], pa.list_(pa.large_binary())),
            "structs": pa.array([None, [], [{"image": None}], [{"image": b""}], [None, {"image": CUT}], None]),
            "map": pa.array(
                [None, [], [("a", None)], [("a", GOOD), ("b", b"")], [("a", CUT)], []],
                pa.map_(pa.string(), pa.binary()),
            ),
        }
    )
    twice = pa.concat_tables([table.slice(3), table])  # two chunks, one with an offset
    twice = twice.set_column(0, "image", twice["image"].unify_dictionaries().combine_chunks())
    order = [3, 4, 5, 0, 1, 2, 3, 4, 5]
    wanted = {
        ("image",): {"image is missing": [2], "image: truncated": [1, 4], "image: empty": [3]},
        ("hf", "bytes"): {"hf.bytes is missing": [0, 1], "hf.bytes: unknown format": [3], "hf.bytes: truncated": [4]},
        ("list", ITEM): {"list: truncated": [3], "list: unknown format": [4]},
        ("structs", ITEM, "image"): {"structs.image: empty": [3], "structs.image: truncated": [4]},
        ("map", ITEM): {"map: empty": [3], "map: truncated": [4]},
    }
    for path, reasons in wanted.items():
        assert counted(table, path) == reasons
        assert counted(twice, path) == {
            why: [i for i, r in enumerate(order) if r in rows] for why, rows in reasons.items()
        }
    # only in the first column that has one value for each row is a null bad
    assert counted(table, ("map", ITEM), ("image",), ("hf", "bytes")) == {
        **wanted[("map", ITEM)],
        **wanted[("image",)],
        "hf.bytes: unknown format": [3],
        "hf.bytes: truncated": [4],
    }
    assert counted(table, ("image",), max_pixels=63)["image: too large"] == [0, 1, 4, 5]


SECRET = b"a mask in a format of our own"
QUERY = """
SELECT id, {sha} AS sha, image_from_base64(text) AS image, image AS original, {other} AS other
FROM source
"""


def source(folder: Path) -> Path:
    """Six rows whose base64 is a data URL, in lines, for URLs, a web page, half a PNG, and null."""
    texts = [
        "data:image/png;base64," + base64.b64encode(png(0)).decode(),
        base64.encodebytes(png(1)).decode(),
        base64.urlsafe_b64encode(png(2)).decode().rstrip("="),
        base64.b64encode(b"<!DOCTYPE html><html>not found</html>").decode(),
        base64.b64encode(png(4)[:40]).decode(),
        None,
    ]
    rows = [
        {"id": f"id{i}", "sha": hashlib.sha256(bytes([i])).digest(), "text": text, "image": png(i), "mask": SECRET}
        for i, text in enumerate(texts)
    ]
    folder.mkdir()
    pq.write_table(pa.Table.from_pylist(rows), folder / "part.parquet")
    return folder


@pytest.mark.parametrize("by", ["reference", "value"])
def test_what_a_query_computes_is_checked(spark, tmp_path: Path, by: str) -> None:
    """And a key or a mask among the columns costs one key of the recipe, the same by reference and by value."""
    query = QUERY.format(sha="sha", other="mask" if by == "reference" else "substr(mask, 1, 99)")

    def recipe(**output: object) -> Dataset:
        section = {
            "source": {"path": str(tmp_path / "source")},
            "udfs": ["headrace.Images"],
            "query": query,
            "shuffle": {"key": "id"},
            "output": {"path": str(tmp_path / "out"), **output},
        }
        return Dataset.model_validate(section)

    source(tmp_path / "source")
    with pytest.raises(DataError, match=r"sha: unknown format .*dataset\.output\.not_images"):
        build(spark, recipe())
    told = recipe(not_images=["sha", "other"])
    with pytest.raises(
        DataError, match=r"image is missing \(key id5.*image: truncated .*image: unknown format \(key id3"
    ):
        build(spark, told)
    summary = build(spark, told.model_copy(update={"on_bad_row": "drop"}))
    assert (summary.by_value is not None) == (by == "value")
    assert summary.dropped == {"image is missing": 1, "image: truncated": 1, "image: unknown format": 1}
    found = {row.id: row for row in written(spark, tmp_path / "out").collect()}
    assert {name: bytes(row.image) for name, row in found.items()} == {f"id{i}": png(i) for i in range(3)}
    assert {bytes(row.other) for row in found.values()} == {SECRET}
    assert bytes(found["id2"].sha) == hashlib.sha256(b"\2").digest()
