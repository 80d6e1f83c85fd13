"""The files at and below a source's path, each once, with what is known of them without reading them."""

import fnmatch
import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyarrow import fs

from headrace.dataset.source.account import (
    CLOSED,
    HIDDEN,
    IRREGULAR,
    LOOP,
    TOO_LARGE,
    UNREADABLE,
    Unusable,
)
from headrace.dataset.storage import absolute, filesystem
from headrace.errors import RecipeError

KEY = "dataset.source.path"
# Arrow's binary columns count their bytes in 32 bits, and so do Spark's.
MAX_BYTES = (1 << 31) - 1
_WILD = re.compile(r"[*?\[]")


@dataclass(frozen=True, slots=True)
class File:
    """A file of a source. `problem` is the reason to leave it out; None: there is none."""

    path: str
    """relative to the source's folder, with slashes"""
    size: int = 0
    modified: int = 0
    problem: str | None = None


@dataclass(frozen=True)
class Folder:
    """The folder `root`, a path or URI, and its files in the order of their paths."""

    root: str
    files: tuple[File, ...]

    @property
    def fingerprint(self) -> str:
        """A hash of the files' names, sizes and modification times."""
        lines = (f"{file.path} {file.size} {file.modified}" for file in self.files)
        return hashlib.sha256("\n".join((self.root, *lines)).encode(errors="surrogateescape")).hexdigest()


def list_files(path: str) -> Folder:
    """The files of the folder, the file or the pattern (`*`, `?`, `[…]`) `path`, at any depth; links are followed.

    Raises RecipeError if there is nothing at `path`.
    """
    root, wanted = _split(absolute(path))
    files, folder = filesystem(root, KEY)
    found: Iterator[File] = iter(())
    if files.get_file_info(folder).type != fs.FileType.NotFound:
        found = _walk(folder, "", ()) if isinstance(files, fs.LocalFileSystem) else _listed(files, folder)
    kept = tuple(sorted((file for file in found if _matches(file.path, wanted)), key=lambda file: file.path))
    if not kept:
        raise RecipeError(f"{KEY}: found no files at {path!r}, expected a folder with files")
    return Folder(root if "://" in root else folder, kept)


def reader(root: str) -> Callable[[str], bytes]:
    """The function that reads a file of the folder `root` by its path in it. It raises Unusable."""
    files, folder = filesystem(root, KEY)
    local = isinstance(files, fs.LocalFileSystem)

    def read(path: str) -> bytes:
        try:
            size = os.stat(f"{folder}/{path}").st_size if local else files.get_file_info(f"{folder}/{path}").size
            if (size or 0) > MAX_BYTES:
                raise Unusable(TOO_LARGE)
            if local:
                return Path(folder, path).read_bytes()
            with files.open_input_stream(f"{folder}/{path}") as stream:
                return bytes(stream.read())
        except OSError:
            raise Unusable(UNREADABLE) from None

    return read


def printable(name: str) -> str:
    """`name` with escapes in place of bytes that are not UTF-8, which no column of strings can hold."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _split(path: str) -> tuple[str, list[str]]:
    """The folder to list, and the patterns for the names below it, one for each level; none for a plain folder."""
    files, local = filesystem(path, KEY)
    info = files.get_file_info(local)
    parts = path.rstrip("/").split("/")
    if info.type == fs.FileType.File:
        return "/".join(parts[:-1]), [re.sub(_WILD, r"[\g<0>]", parts[-1])]
    wild = next((i for i, part in enumerate(parts) if _WILD.search(part)), None)
    if info.type != fs.FileType.NotFound or wild is None:
        return path.rstrip("/") or "/", []
    return "/".join(parts[:wild]) or "/", parts[wild:]


def _matches(path: str, wanted: Sequence[str]) -> bool:
    names = path.split("/")
    return len(names) >= len(wanted) and all(map(fnmatch.fnmatchcase, names, wanted))


def _walk(root: str, folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[File]:
    """The files of the local `folder`, relative to `root`. `above` identifies the folders that lead to it."""
    here = os.path.join(root, folder)
    try:
        status = os.stat(here)
        entries = list(os.scandir(here))
    except NotADirectoryError:
        return
    except OSError:
        yield _file(folder, problem=CLOSED)
        return
    above = (*above, (status.st_dev, status.st_ino))
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        try:
            status = entry.stat()
        except OSError:  # a link to nothing, or to itself
            yield _file(path)
            continue
        if not stat.S_ISDIR(status.st_mode):
            problem = None if stat.S_ISREG(status.st_mode) else IRREGULAR
            yield _file(path, status.st_size, status.st_mtime_ns, problem)
        elif (status.st_dev, status.st_ino) in above:
            yield _file(path, problem=LOOP)
        else:
            yield from _walk(root, path, above)


def _listed(files: fs.FileSystem, folder: str) -> Iterator[File]:
    for info in files.get_file_info(fs.FileSelector(folder, recursive=True, allow_not_found=True)):
        if info.type != fs.FileType.Directory:
            path = info.path.removeprefix(f"{folder}/")
            problem = None if info.type == fs.FileType.File else IRREGULAR
            yield _file(path, info.size or 0, info.mtime_ns or 0, problem)


def _file(path: str, size: int = 0, modified: int = 0, problem: str | None = None) -> File:
    if path.startswith(".") or "/." in path:
        problem = HIDDEN
    return File(path, size, modified, problem)
