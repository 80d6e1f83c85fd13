"""The caption tokenizer of a run: learned from the dataset, or copied from an encoder or from another run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from headrace.files import write_text
from headrace.loading import ShardLoader
from headrace.models.tokens import CaptionTokenizer
from headrace.recipe.text import FrozenText, Text
from headrace.recipe.training import Data
from headrace.runs.data import reading

CAPTIONS_AT_A_TIME = 4096


def write_tokenizer(path: Path, text: Text | FrozenText | Path, data: Data) -> None:
    """Write the tokenizer of `text` to `path`, whole or not at all.

    A `Text` encoder's is learned from the captions of `data`; a `FrozenText` encoder has its own in its folder; a path
    is the file of another run.
    """
    if isinstance(text, Path):
        write_text(path, text.read_text(encoding="utf-8"))
        return
    if isinstance(text, FrozenText):
        tokenizer = CaptionTokenizer.pretrained(Path(text.path) / "tokenizer.json", text.length)
    else:
        tokenizer = CaptionTokenizer.train(captions(data), text.vocabulary, text.length)
    tokenizer.save(path)


def captions(data: Data) -> Iterator[str]:
    """All captions of a dataset that are not null, in the order of the table. No other column is read."""
    if data.caption is None:
        return
    batches = ShardLoader(
        data.path,
        columns=[data.caption],
        decode={},
        shuffle=False,
        batch_size=CAPTIONS_AT_A_TIME,
        drop_last=False,
        **{**reading(data), "where": None},
    )
    for batch in batches:
        yield from (caption for caption in batch[data.caption] if caption is not None)
