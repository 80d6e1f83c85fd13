"""Local files that are there whole or not at all, even after a crash of the machine; and the URIs of others."""

import fcntl
import glob
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit
from uuid import uuid4

CHUNK_BYTES = 1 << 20


@contextmanager
def atomic(path: Path, durable: bool = True) -> Iterator[Path]:
    """Replace the file at `path` in one step: write to the path that this yields, an empty file in the same folder.

    Readers see the old file until the block ends, and the new one from then on. If the block raises, the old file stays
    and the new one is removed. A killed process leaves a hidden file behind, which the next write to `path` removes.
    Several processes may write to one path at once: the last one wins.

    The file keeps its mode, a new one gets that of any new file, and a link stays one: what it points to is replaced.

    `durable` forces the file and its folder to disk, so that a crash of the machine cannot lose them. Turn it off for
    large files that can be fetched again.
    """
    path = Path(os.path.realpath(path))
    _remove_abandoned(path)
    with _locked_neighbour(path) as hidden:
        mode = (path if path.exists() else hidden).stat().st_mode
        try:
            yield hidden
            hidden.chmod(mode)  # whatever wrote it may have made a file of its own, readable by its owner only
            if durable:
                sync(hidden)
            hidden.replace(path)
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise
    if durable:
        sync(path.parent)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a whole file, as `atomic` does."""
    with atomic(path) as hidden:
        hidden.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a whole file in UTF-8, as `atomic` does."""
    write_bytes(path, text.encode())


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def arrow_uri(uri: str) -> str:
    """`uri` with the scheme that Arrow has for it: what Hadoop calls s3a, and once s3n, is s3."""
    scheme, separator, rest = uri.partition("://")
    return f"s3{separator}{rest}" if scheme in {"s3a", "s3n"} else uri


def local_path(uri: str) -> Path | None:
    """The path on this machine that a path or a file: URI names; None for any other URI."""
    if uri.startswith("file:"):
        return Path(unquote(urlsplit(uri).path))
    return None if "://" in uri else Path(uri)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def remove_folder(path: Path) -> None:
    """Remove a folder so that a crash midway leaves none that looks whole."""
    hidden = path.with_name(f".{path.name}.removed")
    path.rename(hidden)
    shutil.rmtree(hidden)


@contextmanager
def _locked_neighbour(path: Path) -> Iterator[Path]:
    """An empty file with a name of its own beside `path`, locked so that no other process takes it for abandoned."""
    while True:
        hidden = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
        descriptor = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
        try:
            with suppress(OSError):  # a file system without locks: nobody can remove the file either
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if hidden.exists():  # nobody removed it before it was locked
                yield hidden
                return
        finally:
            os.close(descriptor)


def _remove_abandoned(path: Path) -> None:
    """Remove what killed processes left beside `path`: hidden files that nobody holds locked."""
    for hidden in path.parent.glob(f".{glob.escape(path.name)}.{'[0-9a-f]' * 32}.tmp"):
        with suppress(OSError):  # locked, removed by another process, or not ours
            descriptor = os.open(hidden, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                hidden.unlink()
            finally:
                os.close(descriptor)
