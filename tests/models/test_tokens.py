"""Captions become a fixed number of tokens, and never an empty row."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.errors import RecipeError
from headrace.models import CaptionTokenizer

CAPTIONS = ["red heart", "green heart", "red apple", "smiling face", "coeur rouge", "Ĝis revido", "赤いハート"]
TRAINED = CaptionTokenizer.train(CAPTIONS, vocabulary=300, length=8)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.text(max_size=30)), min_size=1, max_size=5))
def test_every_row_begins_with_the_same_real_token(captions: list[str | None]) -> None:
    tokens_NL, mask_NL = TRAINED.encode(captions)
    assert tokens_NL.shape == mask_NL.shape == (len(captions), 8)
    assert tokens_NL.dtype == torch.int64
    assert mask_NL.dtype == torch.bool
    assert tokens_NL.max() < TRAINED.vocabulary <= 300
    assert (tokens_NL[:, 0] == tokens_NL[0, 0]).all()
    assert mask_NL[:, 0].all()
    assert (mask_NL.int().diff(dim=1) <= 0).all(), "real tokens come first"
    for caption, row in zip(captions, mask_NL, strict=True):
        assert (row.sum() == 1) == (not caption)


def test_a_caption_is_found_again_whatever_its_case() -> None:
    same = TRAINED.encode(["Red HEART", "red heart"])[0]
    assert torch.equal(same[0], same[1])
    rows = {tuple(row.tolist()) for row in TRAINED.encode(CAPTIONS[:4])[0]}
    assert len(rows) == 4


def test_saved_and_loaded_it_encodes_the_same(tmp_path: Path) -> None:
    TRAINED.save(tmp_path / "tokenizer.json")
    loaded = CaptionTokenizer.load(tmp_path / "tokenizer.json")
    assert (loaded.length, loaded.vocabulary) == (8, TRAINED.vocabulary)
    for one, other in zip(loaded.encode(CAPTIONS), TRAINED.encode(CAPTIONS), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("text", [None, "", "{}", '{"a": 1}'])
def test_a_file_that_holds_no_tokenizer_gives_one_line(text: str | None, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RecipeError, match=r"tokenizer\.json: found .*, expected a tokenizer") as caught:
        CaptionTokenizer.load(path)
    assert "\n" not in str(caught.value)
