"""The members of a tar file, plain or compressed. What is damaged is named, and what is before the damage is read.

The headers are read first, and contents when they are asked for, so members of a sample need not be neighbours. A tar
that is compressed, or not on a local disk, is first copied to a temporary file.
"""

import bz2
import gzip
import lzma
import os
import posixpath
import re
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any

from pyarrow import fs

from headrace.dataset.source.account import (
    BAD_FILE,
    HIDDEN,
    IRREGULAR,
    REPLACED,
    TOO_LARGE,
    UNREADABLE,
    Unusable,
)
from headrace.dataset.source.listing import KEY, MAX_BYTES, File
from headrace.dataset.source.samples import LeftOut
from headrace.dataset.storage import filesystem

NOT_A_TAR = BAD_FILE + "not a tar"
TRUNCATED = BAD_FILE + "tar that is truncated or damaged"
TRAILING = BAD_FILE + "tar with data after its end"
LINK_TO_NOTHING = BAD_FILE + "link to nothing in its tar"

_NAME = re.compile(r"\.(tar(\.(gz|bz2|xz))?|tgz|tbz2?|txz)$", re.IGNORECASE)
_OPENERS: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\0": lzma.open}
_CHUNK = 1 << 20
# What tarfile raises for damaged headers.
_DAMAGE = (tarfile.TarError, ValueError, OverflowError, EOFError, OSError, RecursionError)


@dataclass(frozen=True)
class Members:
    """The members of a tar: those to read, those left out, and `problem`, what is wrong with the tar, or None.

    `cut` is the last member of a tar with a problem: others of its sample may be missing.
    """

    files: tuple[File, ...]
    left_out: tuple[LeftOut, ...]
    read: Callable[[str], bytes]
    problem: str | None = None
    cut: str | None = None


def is_tar(path: str) -> bool:
    """Whether a file is called a tar."""
    return _NAME.search(path) is not None


@contextmanager
def members(root: str, path: str) -> Iterator[Members]:
    """The members of the tar `path` in the folder `root`. They can be read inside the block."""
    with ExitStack() as stack:
        try:
            stream, whole = _seekable(stack, root, path)
        except OSError:
            yield Members((), (), _unreadable, UNREADABLE)
            return
        found: list[tarfile.TarInfo] = []
        try:
            tar = stack.enter_context(tarfile.open(fileobj=stream, mode="r:"))
            for member in tar:
                if found and member.offset <= found[-1].offset:
                    raise tarfile.ReadError("headers that run backwards")
                found.append(member)
            problem = _ends(stream, tar.offset) if whole else TRUNCATED
        except _DAMAGE:
            problem = TRUNCATED if found or not whole else NOT_A_TAR
        yield _members(tar, found, problem) if found else Members((), (), _unreadable, problem)


def _members(tar: tarfile.TarFile, found: list[tarfile.TarInfo], problem: str | None) -> Members:
    """The members `found`, of which the last one of a name counts, as when a tar is unpacked."""
    last = {_path(member): member for member in found if not member.isdir()}
    files, left_out = [], []
    for member in found:
        if member.isdir():
            continue
        path = _path(member)
        if last[path] is not member:
            left_out.append(LeftOut(path, REPLACED))
        elif not (member.isreg() or member.islnk() or member.issym()):
            left_out.append(LeftOut(path, IRREGULAR))
        else:
            files.append(File(path, member.size, problem=HIDDEN if path.startswith(".") or "/." in path else None))

    def read(path: str) -> bytes:
        try:
            content = tar.extractfile(last[path])
            if content is None:
                raise Unusable(LINK_TO_NOTHING)
            if content.seek(0, os.SEEK_END) > MAX_BYTES:
                raise Unusable(TOO_LARGE)
            content.seek(0)
            return content.read()
        except (KeyError, RecursionError):  # a link to no member, or to itself
            raise Unusable(LINK_TO_NOTHING) from None
        except _DAMAGE:
            raise Unusable(TRUNCATED) from None

    cut = _path(found[-1]) if problem == TRUNCATED and found else None
    return Members(tuple(files), tuple(left_out), read, problem, cut)


def _unreadable(path: str) -> bytes:
    raise Unusable(UNREADABLE)


def _path(member: tarfile.TarInfo) -> str:
    return posixpath.normpath(member.name).lstrip("/")


def _seekable(stack: ExitStack, root: str, path: str) -> tuple[IO[bytes], bool]:
    """The tar, decompressed, as a local file that `stack` closes; and whether all of it is there. Raises OSError."""
    files, folder = filesystem(root, KEY)
    local = isinstance(files, fs.LocalFileSystem)
    name = f"{folder}/{path}"
    raw: Any = stack.enter_context(open(name, "rb") if local else files.open_input_file(name))  # noqa: SIM115
    start = raw.read(max(map(len, _OPENERS)))
    raw.seek(0)
    opener = next((opener for magic, opener in _OPENERS.items() if start.startswith(magic)), None)
    if local and opener is None:
        return raw, True
    spill = os.environ.get("SPARK_LOCAL_DIRS", "").split(",")[0] or None
    copy = stack.enter_context(tempfile.TemporaryFile(dir=spill))  # noqa: SIM115
    # read1 returns what there is before the damage.
    read = raw.read if opener is None else stack.enter_context(opener(raw)).read1
    try:
        while chunk := read(_CHUNK):
            copy.write(chunk)
        whole = True
    except (EOFError, OSError, zlib.error, lzma.LZMAError):
        whole = False
    copy.seek(0)
    return copy, whole


def _ends(stream: IO[bytes], offset: int) -> str | None:
    """What is wrong with a tar whose last member ends at `offset`: blocks of zeros must follow, and nothing else."""
    stream.seek(offset)
    if len(block := stream.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE or any(block):
        return TRUNCATED
    while chunk := stream.read(_CHUNK):
        if chunk.strip(b"\0"):
            return TRAILING
    return None
