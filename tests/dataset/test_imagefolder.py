"""Sources in the layout of HuggingFace's ImageFolder: metadata.jsonl, .csv and .parquet beside images."""

import io
import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.dataset.build import build
from headrace.dataset.source.account import BAD_FILE, HIDDEN, NO_JSON, NO_UNICODE, NOT_FOUND, UNREADABLE
from headrace.dataset.source.imagefolder import NO_NAME, described, metadata_of
from headrace.dataset.source.listing import list_files
from headrace.dataset.source.metadata import NO_CSV, NO_OBJECT, NO_PARQUET, RAGGED
from headrace.errors import DataError
from tests.dataset.conftest import png, written
from tests.dataset.test_folders import files_recipe, put


def described_in(tmp_path: Path, files: dict[str, bytes]) -> tuple[dict[str, dict | None], Counter]:
    """The metadata of each row by key, and how often each reason occurs."""
    folder = list_files(str(put(tmp_path, files)))
    metadata = metadata_of(folder)
    rows, left_out = described(folder, metadata)
    table = metadata.table.to_pylist()
    return {row.key: None if row.row is None else table[row.row] for row in rows}, Counter(i.reason for i in left_out)


def test_metadata_of_every_folder_and_kind(tmp_path: Path) -> None:
    parquet = io.BytesIO()
    pq.write_table(pa.table({"file_name": ["sub/4.png"], "text": ["four"], "n": [4]}), parquet)
    lines = [{"file_name": "0.png", "text": "zero", "n": 1}, {"file_name": "sub/../1.png", "box": [[1, 2.5]]}]
    rows, reasons = described_in(
        tmp_path,
        {
            "train/metadata.jsonl": b"\xef\xbb\xbf" + "\n\n".join(map(json.dumps, lines)).encode(),
            "csv/metadata.csv": 'file_name,text\n2.png,"a ""quoted"",\nsecond line"\n3.jpg,\n3.png,""\n'.encode(
                "utf-16"
            ),
            "metadata.parquet": parquet.getvalue(),
            **dict.fromkeys(["train/0.png", "train/1.png", "csv/2.png", "csv/3.jpg", "csv/3.png", "sub/4.png"], b"x"),
            **dict.fromkeys(["alone.png", "readme.md", ".DS_Store"], b"x"),
        },
    )
    nothing = {"text": None, "n": None, "box": None}
    assert rows == {
        "train/0": nothing | {"text": "zero", "n": 1},
        "train/1": nothing | {"box": [[1, 2.5]]},
        "csv/2": nothing | {"text": 'a "quoted",\nsecond line'},
        "csv/3.jpg": nothing,
        "csv/3.png": nothing,
        "sub/4": nothing | {"text": "four", "n": 4},
        "alone": None,
    }
    assert reasons == {"file: .md": 1, HIDDEN: 1}


def test_metadata_that_is_broken(tmp_path: Path) -> None:
    lines = [b'{"file_name": "0.png", "id": "007"}', b'{"file_name": "gone.png"}', b'{"id": "1"}', b"{", b'["x"]']
    rows, reasons = described_in(
        tmp_path,
        {
            "a/metadata.jsonl": b"\n".join([*lines, b'{"file_name": "0.png", "id": "\\ud800"}']),
            "b/metadata.csv": b"file_name,id\n0.png,007\n0.png\n",
            "c/metadata.csv": "file_name,id\n0.png,caf\u00e9".encode("latin-1"),
            "d/metadata.csv": b"",
            "f/metadata.csv": b'file_name,id\n0.png,"7\n1.png,8',
            "e/metadata.parquet": b"PAR1",
            **dict.fromkeys(["a/0.png", "b/0.png"], b"x"),
        },
    )
    assert rows == {"a/0": {"id": "007"}, "b/0": {"id": "007"}}
    assert reasons == {
        NOT_FOUND: 1,
        NO_NAME: 1,
        NO_JSON: 1,
        NO_OBJECT: 1,
        NO_UNICODE: 1,
        BAD_FILE + "text in neither UTF-8 nor UTF-16": 1,
        RAGGED: 1,
        NO_CSV: 2,
        NO_PARQUET: 1,
    }


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (
            {"metadata.jsonl": b'{"name": "0.png"}'},
            "found columns 'name' in metadata.jsonl, expected 'file_name'",
        ),
        (
            {"metadata.csv": b"file_name,a,a\n0.png,1,2"},
            "found columns 'file_name', 'a', 'a' in metadata.csv, expected differ",
        ),
        ({"metadata.csv": b"file_name,Key\n0.png,1"}, "found a column 'Key' in the metadata, expected none"),
        (
            {"metadata.jsonl": b'{"file_name": "0.png", "a": 1}\n{"file_name": "0.png", "a": "b"}'},
            "found values of different types in column 'a' of metadata.jsonl",
        ),
        (
            {"a/metadata.jsonl": b'{"file_name": "0", "a": 1}', "b/metadata.jsonl": b'{"file_name": "0", "a": "b"}'},
            "found metadata files with different types",
        ),
    ],
)
def test_metadata_that_does_not_fit(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    with pytest.raises(DataError, match=rf"^dataset\.source\.path: {said}") as error:
        described_in(tmp_path, {**files, "0.png": b"x"})
    assert "\n" not in str(error.value)


def test_a_build_of_an_image_folder(spark, tmp_path: Path) -> None:
    lines = [
        {
            "file_name": "0.png",
            "text": "zero",
            "mask_file_name": "masks/0.png",
            "views_file_names": ["v/1.png", "v/2.png"],
        },
        {"file_name": "1.png", "text": "one", "mask_file_name": None},
        {"file_name": "2.png", "text": "two", "mask_file_name": "masks/gone.png"},
        {"file_name": "3.png", "text": "of another day"},
        {"file_name": "gone.png"},
    ]
    lines = [{"ds": "late" if "day" in line.get("text", "") else "early", **line} for line in lines]
    files = {
        name: png(i) for i, name in enumerate(["0.png", "1.png", "2.png", "masks/0.png", "v/1.png", "v/2.png", "3.png"])
    }
    root = put(
        tmp_path / "in",
        {
            "train/metadata.jsonl": "\n".join(map(json.dumps, lines)).encode(),
            **{f"train/{name}": content for name, content in files.items()},
        },
    )
    query = "SELECT key, text, image, mask, view FROM source LATERAL VIEW OUTER explode(views) v AS view"
    output = {"path": str(tmp_path / "out"), "partition": "ds"}
    made = files_recipe(root, tmp_path / "out", "imagefolder", query, on_bad_row="drop", output=output)
    summary = build(spark, made, ("ds", "early"))
    rows = [(r["key"], r["text"], r["image"], r["mask"], r["view"]) for r in written(spark, tmp_path / "out").collect()]
    assert sorted(rows, key=repr) == [
        ("train/0", "zero", png(0), png(3), png(4)),
        ("train/0", "zero", png(0), png(3), png(5)),
        ("train/1", "one", png(1), None, None),
    ]
    assert summary.dropped_rows == {UNREADABLE: 1, NOT_FOUND: 1}
