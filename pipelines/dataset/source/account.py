"""The account of a source that lists files: every file is part of a row, or is left out for a reason that is counted.

Such a source is a frame with the hidden column `DROPPED`, which is null in the rows for the query. Its other rows stand
for what is left out: a file that is no part of a row (`FILE`), a damaged file (`BAD_FILE`), or a row of which a file is
damaged (`BAD_ROW`). A build with `on_bad_row: fail` takes only sources without bad files and rows.
"""

DROPPED = "__dropped"
"""the hidden column with the reason why a row is left out"""
FILE, BAD_FILE, BAD_ROW = "file: ", "bad file: ", "bad row: "
"""how the reasons of each kind begin"""

HIDDEN = FILE + "hidden"
IRREGULAR = FILE + "neither a file nor a folder"
LOOP = FILE + "link to a folder around it"
ALONE = FILE + "text or metadata without an image"
FURTHER = FILE + "one .json too many for an image"
REPLACED = FILE + "replaced by a later member of the same name"
NOT_STRINGS = "captions that are not strings"

UNREADABLE = BAD_FILE + "cannot be read"
CLOSED = BAD_FILE + "folder that cannot be listed"
TOO_LARGE = BAD_FILE + "2 GiB or larger"
NOT_FOUND = BAD_FILE + "in the metadata, but not in the folder"

NO_UNICODE = BAD_ROW + "text in neither UTF-8 nor UTF-16"
NO_JSON = BAD_ROW + "metadata that is not JSON"


def is_row(reason: str | None) -> bool:
    """Whether something that is left out for `reason` (None: not left out) would have been a row."""
    return reason is None or not (reason.startswith((FILE, BAD_FILE)) or reason == NOT_STRINGS)


def is_bad(reason: str | None) -> bool:
    """Whether `reason` is one that `on_bad_row` decides about."""
    return reason is not None and reason.startswith((BAD_FILE, BAD_ROW))


class Unusable(Exception):
    """A file cannot be used; the message is the reason."""
