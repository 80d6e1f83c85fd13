"""Captions and metadata from the sidecar files of an image: .txt and .json."""

import codecs
import json
from typing import Any

from headrace.dataset.source.account import NO_JSON, NO_UNICODE, Unusable

# UTF-32 first: its mark for little endian begins with that of UTF-16.
_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}


def decode(content: bytes) -> str:
    """The text of a file: UTF-8, or UTF-16 or UTF-32 with a byte order mark, which is left out.

    Raises Unusable for anything else. Other encodings cannot be told from one another.
    """
    mark = next((mark for mark in _MARKS if content.startswith(mark)), b"")
    try:
        text = content[len(mark) :].decode(_MARKS.get(mark, "utf-8"))
    except UnicodeDecodeError:
        raise Unusable(NO_UNICODE) from None
    if "\0" in text:  # UTF-16 without a mark reads as UTF-8 with zeros
        raise Unusable(NO_UNICODE)
    return text


def captions_of(metadata: str) -> tuple[list[str | None] | None, bool]:
    """The captions that a .json file holds, and whether all of them are strings; others are not returned.

    They are `captions`, a string or a list, or else `caption`; None if there are neither. Raises Unusable for text that
    is not JSON, and for captions that are not Unicode.
    """
    try:
        described = json.loads(metadata)
    except (ValueError, RecursionError):  # nested too deeply
        raise Unusable(NO_JSON) from None
    if not isinstance(described, dict):
        return None, True
    given = [described.get(name) for name in ("captions", "caption")]
    found = next((value for value in given if value), next((value for value in given if value is not None), None))
    if found is None:
        return None, True
    listed: list[Any] = found if isinstance(found, list) else [found]
    captions = [caption for caption in listed if caption is None or isinstance(caption, str)]
    if any(not is_unicode(caption) for caption in captions if caption is not None):
        raise Unusable(NO_UNICODE)
    whole = len(captions) == len(listed)
    return (captions if captions or (isinstance(found, list) and whole) else None), whole


def is_unicode(text: str) -> bool:
    """Whether `text` has no lone surrogates, which JSON's escapes can make."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
