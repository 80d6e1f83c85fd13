"""Sources that are image files: every file is part of a row, or left out for a reason that is counted."""

import gzip
import io
import json
import os
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.dataset.build import build
from headrace.dataset.source import folders, tars
from headrace.dataset.source.account import (
    ALONE,
    CLOSED,
    DROPPED,
    HIDDEN,
    IRREGULAR,
    LOOP,
    NO_JSON,
    NO_UNICODE,
    NOT_STRINGS,
    UNREADABLE,
    Unusable,
)
from headrace.dataset.source.folders import read_sample, rows_of_tar
from headrace.dataset.source.listing import File, list_files, reader
from headrace.dataset.source.reader import open_source
from headrace.dataset.source.samples import IMAGES, Sample, grouped, name_in_folder, name_in_tar
from headrace.dataset.source.sidecars import captions_of, decode
from headrace.dataset.storage import filesystem
from headrace.errors import DataError, RecipeError
from headrace.recipe.dataset import Dataset, Source
from tests.dataset.conftest import png, recipe, written

Files = list[tuple[str, bytes]]


def put(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def tar_of(files: Files, form: int = tarfile.PAX_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def rows_of(tmp_path: Path, content: bytes, name: str = "x.tar") -> tuple[dict[str, dict], Counter]:
    """The rows of a tar by key, and how often each reason occurs."""
    put(tmp_path, {name: content})
    rows = list(rows_of_tar(str(tmp_path), name))
    return {row["key"]: row for row in rows if DROPPED not in row}, Counter(r[DROPPED] for r in rows if DROPPED in r)


# --- what belongs together ---

STEMS = ["cat", "22.05", "0", "a/cat", "a b#%?", "é", "é", "日本", ".hidden", "v1.2.3", "x.png", "-", "A"]
SUFFIXES = ["png", "PNG", "jpg", "JPEG", "gif", "txt", "TXT", "json", "md", "cls", "image.png", "seg.png", "en.txt", ""]
names = st.tuples(st.sampled_from(STEMS), st.sampled_from(SUFFIXES)).map(lambda parts: ".".join(filter(None, parts)))


@settings(max_examples=300, deadline=None)
@given(st.lists(names, unique=True), st.sampled_from([name_in_folder, name_in_tar]))
def test_every_file_is_part_of_a_row_or_left_out(paths: list[str], name_of) -> None:
    samples, left_out = grouped([File(path) for path in paths], name_of)
    used = [path for sample in samples for path in sample.files]
    assert sorted({*used, *(item.path for item in left_out)}) == sorted(paths)
    assert not {*used} & {item.path for item in left_out}
    assert len({sample.key for sample in samples}) == len(samples)
    images = [path for path in paths if name_of(path).suffix.lower() in IMAGES]
    of_rows = [path for sample in samples for path in sample.files if path in images]
    assert set(of_rows) == set(images), "no image is lost"
    assert all(sample.image is not None for sample in samples) or name_of is name_in_tar
    again, _ = grouped([File(path) for path in reversed(paths)], name_of)
    assert sorted(map(repr, again)) == sorted(map(repr, samples)), "whatever the order"


def one(paths: str, name_of=name_in_tar) -> list[Sample]:
    return grouped([File(path) for path in paths.split()], name_of)[0]


def test_names_in_tars_follow_webdataset() -> None:
    assert one("22.05.png 22.05.txt 22.10.png") == [
        Sample("22.05", "22.05.png", "22.05.png", texts=("22.05.txt",)),
        Sample("22.10", "22.10.png", "22.10.png"),
    ]
    assert one("0.image.png 0.seg.png 0.txt 0.json") == [
        Sample("0", "0.image.png", "0.image.png", {"seg": "0.seg.png"}, ("0.txt",), "0.json")
    ]
    assert one("0.png 0.depth.png") == [Sample("0", "0.png", "0.png", {"depth": "0.depth.png"})]
    assert one("a/0.input.jpg a/0.output.jpg") == [
        Sample("a/0", "a/0", None, {"input": "a/0.input.jpg", "output": "a/0.output.jpg"})
    ]
    assert one("0.photo.png 0.de.txt 0.en.txt") == [
        Sample("0", "0.photo.png", "0.photo.png", texts=("0.de.txt", "0.en.txt"))
    ]


def test_two_images_of_one_name_are_two_rows() -> None:
    for name_of in (name_in_folder, name_in_tar):
        assert one("cat.jpg cat.png cat.txt", name_of) == [
            Sample("cat.jpg", "cat.jpg", "cat.jpg", texts=("cat.txt",)),
            Sample("cat.png", "cat.png", "cat.png", texts=("cat.txt",)),
        ]
    assert {sample.key for sample in one("cat.jpg cat.png cat.jpg.png", name_in_folder)} == {
        "cat.jpg",
        "cat.png",
        "cat.jpg.png",
    }


# --- what a folder holds ---


def test_what_is_in_a_folder(tmp_path: Path) -> None:
    files = ["a/22.05.png", "b#1%20?.PNG", "cafe\u0301.png", "caf\u00e9.png", "empty.png", "_under.png", "x.png/in.png"]
    put(tmp_path / "in [1]", dict.fromkeys([*files, ".git/config", "a/.t/0.png"], b"x"))
    root = tmp_path / "in [1]"
    (root / "empty.png").write_bytes(b"")
    (root / "a/round").symlink_to(root)
    (root / "linked.png").symlink_to(root / "a/22.05.png")
    (root / "gone.png").symlink_to(root / "nowhere.png")
    os.mkfifo(root / "pipe.png")
    (root / os.fsdecode(b"caf\xe9.gif")).write_bytes(b"x")
    found = {file.path: file.problem for file in list_files(str(root)).files}
    assert found == {
        **dict.fromkeys([*files, "linked.png", "gone.png", os.fsdecode(b"caf\xe9.gif")]),
        **dict.fromkeys([".git/config", "a/.t/0.png"], HIDDEN),
        "a/round": LOOP,
        "pipe.png": IRREGULAR,
    }
    samples, left_out = grouped(list_files(str(root)).files, name_in_folder)
    rows = {row["key"]: row for sample in samples for row in read_sample(sample, reader(str(root)))}
    assert {key: row[DROPPED] for key, row in rows.items() if DROPPED in row} == {"gone": UNREADABLE}
    assert rows["empty"]["image"] == b""
    assert rows["linked"]["image"] == rows["b#1%20?"]["image"] == rows["caf\\xe9"]["image"] == b"x"
    pa.RecordBatch.from_pylist(list(rows.values()))  # every key is Unicode
    assert len(samples) + len(left_out) == len(found)


def test_a_folder_that_cannot_be_listed(tmp_path: Path, monkeypatch) -> None:
    put(tmp_path, {"open/0.png": b"x", "closed/1.png": b"x"})
    scandir = os.scandir

    def refuse(path: str):
        if str(path).endswith("closed"):
            raise PermissionError
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert {file.path: file.problem for file in list_files(str(tmp_path)).files} == {
        "open/0.png": None,
        "closed": CLOSED,
    }


def test_paths_and_patterns(tmp_path: Path) -> None:
    put(tmp_path, dict.fromkeys(["t/1.tar", "t/2.tar", "t/3.tgz", "u/1.tar", "u/s/4.tar"], b"x"))
    for pattern, expected in {
        "t/*.tar": ["1.tar", "2.tar"],
        "t/1.tar": ["1.tar"],
        "[uv]": ["u/1.tar", "u/s/4.tar"],
        "*/1*": ["t/1.tar", "u/1.tar"],
    }.items():
        assert [file.path for file in list_files(f"{tmp_path}/{pattern}").files] == expected
    before = list_files(str(tmp_path)).fingerprint
    assert before == list_files(str(tmp_path)).fingerprint
    os.utime(tmp_path / "t/1.tar", (0, 0))
    assert before != list_files(str(tmp_path)).fingerprint
    for wrong in ("nothing", "t/*.zip"):
        with pytest.raises(RecipeError, match=r"dataset\.source\.path: found no files at '.*', expected"):
            list_files(f"{tmp_path}/{wrong}")


def test_files_of_an_object_store(uri: str) -> None:
    content = tar_of([("0.png", b"zero"), ("0.txt", b"caption of 0")])
    names = {"a/1#% ?.png": b"one", "a/.hidden.png": b"", "t/x.tar": content, "t/y.tar": gzip.compress(content)}
    files, root = filesystem(uri)
    for name, data in names.items():
        with files.open_output_stream(f"{root}/{name}") as stream:
            stream.write(data)
    folder = list_files(uri)
    assert {file.path: file.problem for file in folder.files} == dict.fromkeys(names) | {"a/.hidden.png": HIDDEN}
    assert reader(folder.root)("a/1#% ?.png") == b"one"
    with pytest.raises(Unusable, match=UNREADABLE):
        reader(folder.root)("a/2.png")
    assert [file.path for file in list_files(f"{uri}/t/*.tar").files] == ["x.tar", "y.tar"]
    for name in ("t/x.tar", "t/y.tar"):
        (row,) = rows_of_tar(folder.root, name)
        assert (row["path"], row["image"], row["captions"]) == (f"{name}/0.png", b"zero", ["caption of 0"])
    with pytest.raises(RecipeError, match="found no files"):
        list_files(f"{uri}/nothing")


# --- text ---


def test_text_is_decoded_rightly_or_not_at_all() -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert decode("Füchse 🦊".encode(encoding)) == "Füchse 🦊"
    assert decode(b"\xfe\xff\0a") == "a"
    for wrong in ("Füchse".encode("latin-1"), "ab".encode("utf-16-le"), b"\xff\xfea", b"\xef\xbb\xbf\xff"):
        with pytest.raises(Unusable, match=NO_UNICODE):
            decode(wrong)


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        ({"captions": None, "caption": "real"}, (["real"], True)),
        ({"captions": [], "caption": "real"}, (["real"], True)),
        ({"captions": []}, ([], True)),
        ({"captions": ["a", None, "b"], "caption": "c"}, (["a", None, "b"], True)),
        ({"captions": "one"}, (["one"], True)),
        ({"captions": ["a", 5, {"text": "b"}]}, (["a"], False)),
        ({"caption": 5}, (None, False)),
        ({"url": "x"}, (None, True)),
        ([1, 2], (None, True)),
        (None, (None, True)),
    ],
)
def test_captions_of_json(described: object, expected: tuple) -> None:
    assert captions_of(json.dumps(described)) == expected


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ('{"caption": "\\ud800"}', NO_UNICODE),
        ("{broken", NO_JSON),
        ("", NO_JSON),
        ("[" * 100_000, NO_JSON),
        ('{"caption": ' + "[" * 100_000 + "]" * 100_000 + "}", NO_JSON),
        ("9" * 5000, NO_JSON),
    ],
)
def test_json_that_cannot_be_read(metadata: str, reason: str) -> None:
    with pytest.raises(Unusable, match=reason):
        captions_of(metadata)


# --- builds ---

CAPTION = "SELECT key, image, caption FROM source LATERAL VIEW OUTER explode(captions) c AS caption"


def files_recipe(root: Path, out: Path, form: str, query: str, **sections: object) -> Dataset:
    source = {"path": str(root), "format": form}
    return recipe(root, out, query, source=source, **{"shuffle": {"key": "key"}, **sections})


def test_a_build_of_a_folder(spark, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(folders, "TASK_BYTES", 400)  # two images or so
    root = tmp_path / "my 100% #1? pictures"
    files = {
        **{f"a/{i}.png": png(i) for i in range(5)},
        "a/0.txt": b" a red fox \n",
        "a/0.json": b'{"caption": "not this", "url": "x"}',
        "a/1.json": b'{"captions": ["one", "two"]}',
        "a/2.json": b"{broken",
        "a/3.txt": "Füchse".encode("latin-1"),
        "a/4.json": b'{"captions": [4]}',
        "a/4.jpg": png(7),
        "empty.png": b"",
        "readme.md": b"",
        "alone.txt": b"of no image",
    }
    put(root, files)
    query = "SELECT key, path, width, image, caption, get_json_object(metadata, '$.url') AS reason FROM source "
    query += "LATERAL VIEW OUTER explode(captions) c AS caption"
    made = files_recipe(root, tmp_path / "out", "images", query, images={"facts": ["width"]}, on_bad_row="quarantine")
    summary = build(spark, made)
    assert {(r["path"], r["caption"], r["reason"]) for r in written(spark, tmp_path / "out").collect()} == {
        ("a/0.png", "a red fox", "x"),
        ("a/1.png", "one", None),
        ("a/1.png", "two", None),
        ("a/4.jpg", None, None),
        ("a/4.png", None, None),
    }
    assert {r["key"] for r in written(spark, tmp_path / "out").collect()} == {"a/0", "a/1", "a/4.jpg", "a/4.png"}
    left_out = {NO_JSON: 1, NO_UNICODE: 1, NOT_STRINGS: 2, "file: .md": 1, ALONE: 1}
    assert summary.dropped_rows == left_out
    assert json.loads(DeltaTable(str(tmp_path / "out")).history(1)[0]["headrace.dropped_rows"]) == left_out
    assert (summary.rows_in, summary.dropped) == (7, {"image: empty": 1})
    bad = DeltaTable(str(tmp_path / "out/_headrace/quarantine")).to_pyarrow_table().to_pylist()
    assert {(r["key"], r["reason"], r["_key"], r["_reason"]) for r in bad} == {
        ("empty", None, "empty", "image: empty"),
        (None, None, "a/2", NO_JSON),
        (None, None, "a/3", NO_UNICODE),
    }
    assert build(spark, made).unchanged
    put(root, {"a/0.txt": b"another"})
    assert not build(spark, made, dry_run=True).unchanged
    with pytest.raises(DataError, match=r"found bad row: metadata that is not JSON \(a/2; 1\); bad row: text") as error:
        build(spark, files_recipe(root, tmp_path / "fail", "images", CAPTION))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "fail").exists()


def test_a_build_of_tars(spark, tmp_path: Path) -> None:
    one = [("0.image.png", png(0)), ("0.seg.png", png(1)), ("0.txt", b"a fox"), ("2.png", png(2))]
    two = [("0.png", png(3)), ("0.json", b'{"caption": "a hen"}'), ("9.png", png(9))]
    root = put(
        tmp_path / "tars", {"00000.tar": tar_of(one), "s/00001.tar": tar_of(two)[:2600], "00000_stats.json": b""}
    )
    query = "SELECT key, path, image, parts['seg'] AS seg, caption FROM source "
    query += "LATERAL VIEW OUTER explode(captions) c AS caption"
    made = files_recipe(root, tmp_path / "out", "webdataset", query, shuffle={"key": "path"}, on_bad_row="drop")
    summary = build(spark, made)
    rows = {
        (r["key"], r["path"], bytes(r["image"]), r["seg"] and bytes(r["seg"]), r["caption"])
        for r in written(spark, tmp_path / "out").collect()
    }
    assert rows == {
        ("0", "00000.tar/0.image.png", png(0), png(1), "a fox"),
        ("2", "00000.tar/2.png", png(2), None, None),
        ("0", "s/00001.tar/0.png", png(3), None, "a hen"),
    }
    assert summary.by_value is None
    assert summary.rows_in == 3
    assert summary.dropped_rows == {tars.TRUNCATED: 2, "file: .json": 1}
    with pytest.raises(DataError, match=r"dataset\.shuffle\.key: found keys of 'key' more than once: '0' ×2"):
        build(spark, files_recipe(root, tmp_path / "key", "webdataset", query, on_bad_row="drop"))
    with pytest.raises(DataError, match=r"found bad file: tar that is truncated or damaged \(s/00001\.tar, s/00001"):
        build(spark, files_recipe(root, tmp_path / "fail", "webdataset", query))


def test_a_folder_without_images(spark, tmp_path: Path) -> None:
    put(tmp_path, {"readme.md": b""})
    for form, kind in {"images": "png", "webdataset": "tar", "imagefolder": "png"}.items():
        with pytest.raises(RecipeError, match=rf"^dataset\.source\.path: found no \.{kind}"):
            open_source(spark, Source(path=str(tmp_path), format=form))
