"""The dataset of a run: its version, columns and captions, all through the loader's reader of the Delta log."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake

from headrace.errors import DataError, RecipeError
from headrace.models.tokens import CaptionTokenizer
from headrace.recipe.text import Text
from headrace.recipe.training import Data
from headrace.runs.data import version_of
from headrace.runs.tokenizer import captions, write_tokenizer
from tests.tiny_runs import write_dataset


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions of eight images each."""
    path = tmp_path_factory.mktemp("data") / "tiny"
    write_dataset(path)
    return path


def test_the_version_is_the_one_that_is_named_or_the_newest(path: Path) -> None:
    assert version_of(Data(path=str(path))) == 2
    assert version_of(Data(path=str(path), version=1)) == 1


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"path": "nowhere"}, "data.path: found no dataset at nowhere, expected one that `headrace build` made"),
        ({"version": 7}, "data.version: found 7, which cannot be read: "),
        ({"image": "picture"}, "data.image: found 'picture', expected a column of .*: sample_id, image, caption"),
        ({"condition": "edges"}, "data.condition: found 'edges', expected a column of"),
    ],
)
def test_what_is_not_there_is_one_line(path: Path, changes: dict[str, object], line: str) -> None:
    with pytest.raises(RecipeError, match=line) as caught:
        version_of(Data.model_validate({"path": str(path), **changes}))
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_log_is_no_dataset(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b""], "caption": ["a"]}), tmp_path / "part.parquet")
    with pytest.raises(RecipeError, match=r"data.path: found no dataset at"):
        version_of(Data(path=str(tmp_path)))


def test_a_log_that_cannot_be_read_is_an_error_of_the_data(path: Path, tmp_path: Path) -> None:
    (tmp_path / "_delta_log").mkdir()
    (tmp_path / "_delta_log" / f"{0:020}.json").write_text("{}\n")
    with pytest.raises(DataError, match="cannot read the Delta log"):
        version_of(Data(path=str(tmp_path)))


def test_captions_are_those_of_the_version_without_nulls(path: Path, tmp_path: Path) -> None:
    found = list(captions(Data(path=str(path))))
    assert len(found) == 21
    assert set(found) == {f"{colour} {shape}" for colour in ("red", "green", "blue") for shape in ("square", "disc")}
    assert len(list(captions(Data(path=str(path), version=0)))) == 7
    table = pa.table({"caption": ["a", None, "b"], "language": ["en", "en", "de"]})
    write_deltalake(str(tmp_path / "parts"), table, partition_by=["language"])
    assert sorted(captions(Data(path=str(tmp_path / "parts")))) == ["a", "b"]


def test_a_tokenizer_is_learned_from_captions_or_copied(path: Path, tmp_path: Path) -> None:
    data = Data(path=str(path))
    write_tokenizer(tmp_path / "learned.json", Text(vocabulary=300, length=8), data)
    write_tokenizer(tmp_path / "copied.json", tmp_path / "learned.json", data)
    assert (tmp_path / "copied.json").read_bytes() == (tmp_path / "learned.json").read_bytes()
    tokens_NL, mask_NL = CaptionTokenizer.load(tmp_path / "copied.json").encode(["red disc", "quartz"])
    assert tokens_NL.shape == (2, 8)
    assert mask_NL[0].sum() < mask_NL[1].sum(), "words of the dataset have tokens of their own"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copied.json", "learned.json"]


def test_no_second_reader_opens_the_log(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **settings: object) -> None:
        raise AssertionError("a DeltaTable was opened")

    monkeypatch.setattr("deltalake.DeltaTable.__init__", refuse)
    assert version_of(Data(path=str(path))) == 2
    assert len(list(captions(Data(path=str(path), version=2)))) == 21
