"""Every kind of source gives the same dataset."""

import json
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from pipelines.dataset.build import build
from pipelines.dataset.source import open_source
from pipelines.errors import RecipeError
from pipelines.recipe.dataset import Source
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images with sidecars as img2dataset leaves them."""
    root = tmp_path / "my pictures"
    (root / "00000").mkdir(parents=True)
    for i, sidecars in enumerate(
        [
            {"txt": b"a red fox \n", "json": b'{"caption": "not this", "url": "x"}'},
            {"json": json.dumps({"captions": ["one", "two"]}).encode()},
            {"json": b"{broken"},
            {},
        ]
    ):
        (root / "00000" / f"{i:05d}.png").write_bytes(png(i))
        for suffix, content in sidecars.items():
            (root / "00000" / f"{i:05d}.{suffix}").write_bytes(content)
    (root / "readme.md").write_text("not an image")
    (root / "orphan.txt").write_text("of no image")
    return root


CAPTIONS = [["a red fox"], ["one", "two"], None, None]


def test_a_folder_of_images_with_sidecars(spark, folder: Path) -> None:
    found = sorted(open_source(spark, Source(path=str(folder), format="images")).frame.collect())
    assert [r["key"] for r in found] == [f"00000/{i:05d}" for i in range(4)]
    assert [bytes(r["image"]) for r in found] == [png(i) for i in range(4)]
    assert [r["captions"] for r in found] == CAPTIONS
    assert json.loads(found[0]["metadata"])["url"] == "x"


def test_webdataset_tars(spark, folder: Path, tmp_path: Path) -> None:
    tars = tmp_path / "tars"
    tars.mkdir()
    for number, stems in enumerate((("00000", "00001"), ("00002", "00003"))):
        with tarfile.open(tars / f"{number:05d}.tar", "w") as tar:
            for stem in stems:
                for path in sorted((folder / "00000").glob(f"{stem}.*")):
                    tar.add(path, path.name)
    made = recipe(
        tars,
        tmp_path / "out",
        "SELECT key, image, caption FROM source LATERAL VIEW OUTER explode(captions) t AS caption",
        source={"path": str(tars), "format": "webdataset"},
        shuffle={"key": "key"},
    )
    assert build(spark, made).rows == 5
    rows = DeltaTable(str(tmp_path / "out")).to_pyarrow_table().to_pylist()
    expected = [(f"{i:05d}", png(i), c) for i, captions in enumerate(CAPTIONS) for c in captions or [None]]
    assert sorted(((r["key"], r["image"], r["caption"]) for r in rows), key=repr) == sorted(expected, key=repr)


def test_a_folder_without_images(spark, folder: Path) -> None:
    shutil.rmtree(folder / "00000")
    (folder / "orphan.txt").unlink()
    with pytest.raises(RecipeError, match=r"found no \.png"):
        open_source(spark, Source(path=str(folder), format="images"))
    with pytest.raises(RecipeError, match="expected a Delta table"):
        open_source(spark, Source(path=str(folder), format="delta"))
