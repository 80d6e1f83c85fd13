"""Which files of a folder or a tar make up a row: an image, its captions, its metadata and its other parts.

In a folder, `a/cat.png` goes with `a/cat.txt` and `a/cat.json`: names that agree up to their last dot, as img2dataset
writes them. In a tar, WebDataset's rule holds: the key of a member ends at the first dot. Dots of numbers are part of
the key, though (`22.05.png`): it is the first dot that a letter follows. What stands between the key and the last dot
names a part (`0.seg.png`).
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from headrace.dataset.source.account import ALONE, FILE, FURTHER
from headrace.dataset.source.listing import File

IMAGES = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "jpe", "jfif", "apng")
TEXT, METADATA = "txt", "json"
MAIN = "image"
"""the part that is the image where no file of a sample has the plain name"""
_TAR_NAME = re.compile(r"(?P<stem>(?:.*/)?[^/]*?)\.(?:(?P<part>[^\W\d][^/]*)\.)?(?P<suffix>[^\W\d][^./]*)", re.DOTALL)
_SHORT = re.compile(r"[a-z0-9_]{1,8}")


class Name(NamedTuple):
    """A file's path as key, part (empty for the plain name) and suffix, as it is written, without its dot."""

    stem: str
    part: str
    suffix: str


@dataclass(frozen=True, slots=True)
class Sample:
    """A row to read: its key, its path, and the paths of its files. `image` is None if no part is the image."""

    key: str
    path: str
    image: str | None
    parts: Mapping[str, str] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    metadata: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all files of the row."""
        return tuple(path for path in (self.image, *self.parts.values(), *self.texts, self.metadata) if path)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The file `path`, which is part of no row, and why."""

    path: str
    reason: str


def name_in_folder(path: str) -> Name:
    """The name of a file in a folder."""
    folder, slash, name = path.rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    return Name(folder + slash + stem, "", suffix) if dot else Name(path, "", "")


def name_in_tar(path: str) -> Name:
    """The name of a member of a tar."""
    found = _TAR_NAME.fullmatch(path)
    return Name(found["stem"], found["part"] or "", found["suffix"]) if found else Name(path, "", "")


def grouped(files: Iterable[File], name_of: Callable[[str], Name]) -> tuple[list[Sample], list[LeftOut]]:
    """The samples that `files` make up, and the files that are part of none. Paths must differ."""
    left_out: list[LeftOut] = []
    groups: dict[str, list[tuple[Name, str]]] = defaultdict(list)
    for file in files:
        name = name_of(file.path)
        suffix = name.suffix.lower()
        if file.problem is not None:
            left_out.append(LeftOut(file.path, file.problem))
        elif suffix in IMAGES or suffix in {TEXT, METADATA}:
            groups[name.stem].append((name, file.path))
        else:
            left_out.append(LeftOut(file.path, other(suffix)))
    images = {path for group in groups.values() for name, path in group if name.suffix.lower() in IMAGES}
    samples: list[Sample] = []
    for stem, group in groups.items():
        made = _samples(stem, sorted(group), images)
        samples += made
        used = {path for sample in made for path in sample.files}
        left_out += [LeftOut(path, FURTHER if made else ALONE) for _, path in group if path not in used]
    return samples, left_out


def keys(paths: Collection[str]) -> dict[str, str]:
    """The key of each image in a folder: its path without the suffix, or with it if two would have the same key."""
    stems = {path: name_in_folder(path).stem for path in paths}
    count = Counter(stems.values())
    return {path: path if count[stem] > 1 or stem in stems else stem for path, stem in stems.items()}


def other(suffix: str) -> str:
    """The reason to leave out a file because of its suffix."""
    return f"{FILE}.{suffix}" if _SHORT.fullmatch(suffix) else f"{FILE}of another kind"


def _samples(stem: str, group: Sequence[tuple[Name, str]], images: Collection[str]) -> list[Sample]:
    """The samples of one stem: one for each image of the plain name, or else one for all parts.

    Two images of one stem, like cat.jpg and cat.png, keep their suffixes in their keys.
    """
    of_images = [(name, path) for name, path in group if name.suffix.lower() in IMAGES]
    if not of_images:
        return []
    texts = tuple(path for name, path in group if name.suffix.lower() == TEXT)
    metadata = [(name, path) for name, path in group if name.suffix.lower() == METADATA]
    plain = [path for name, path in metadata if not name.part] or [path for _, path in metadata if len(metadata) == 1]
    main = [path for name, path in of_images if not name.part]
    main = main or [path for name, path in of_images if name.part == MAIN]
    main = main or [path for _, path in of_images if len(of_images) == 1]
    parts = _parts([(name, path) for name, path in of_images if path not in main])
    unique = len(main) < 2 and stem not in images
    described = plain[0] if plain else None
    if not main:
        return [Sample(stem, stem, None, parts, texts, described)]
    return [Sample(stem if unique else image, image, image, parts, texts, described) for image in main]


def _parts(images: Sequence[tuple[Name, str]]) -> dict[str, str]:
    """The path of each part by its name, with its suffix where two parts have the same name."""
    names = [name.part for name, _ in images]
    return {name.part if names.count(name.part) == 1 else f"{name.part}.{name.suffix}": path for name, path in images}
