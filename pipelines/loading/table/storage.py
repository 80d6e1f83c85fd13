"""Access to a dataset's files: in a local folder, or at a URI that pyarrow or fsspec opens."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Mapping
from typing import TypeVar
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from headrace.delta import is_uri
from headrace.errors import RecipeError
from headrace.files import arrow_uri
from headrace.loading.table.cache import Cache
from headrace.loading.table.options import STORES, filesystem_with

T = TypeVar("T")

ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.2
_LINE = 400


def one_line(error: Exception) -> str:
    """The text of an error as one line: its first few hundred characters, without the stack that deltalake appends."""
    line = " ".join(str(error).partition("\n   0: ")[0].split())
    return line if len(line) <= _LINE else f"{line[:_LINE]}…"


def store_of(uri: str) -> tuple[str, str]:
    """The file system that a path or URI is in: its kind, and the account or host if it has one.

    Buckets of S3 and of Google Cloud Storage are folders of one file system.
    """
    if not is_uri(uri):
        return "file", ""
    scheme, _, rest = arrow_uri(uri).partition(":")
    authority = rest.removeprefix("//").partition("/")[0] if rest.startswith("//") else ""
    scheme = {"gcs": "gs", "abfss": "abfs", "az": "abfs"}.get(scheme, scheme)
    if scheme in {"file", "s3", "gs"}:
        return scheme, ""
    if scheme == "abfs":  # a host without a container is a container: the account is among the options
        return scheme, authority.partition("@")[2]
    return scheme, authority


def file_in(folder: str, path: str) -> str:
    """The path in its file system of a file that a log or a listing of `folder` names: relative, absolute, or a URI."""
    if not is_uri(path):
        return path if path.startswith("/") else f"{folder}/{path}"
    kind, authority = store_of(path)
    rest = path.partition(":")[2]
    if kind in {"file", "hdfs", "viewfs"}:
        return rest.removeprefix(f"//{authority}") if kind != "file" else f"/{rest.lstrip('/')}"
    if kind == "abfs":
        host, _, name = rest.removeprefix("//").partition("/")
        return f"{host.partition('@')[0]}/{name}"
    return rest.removeprefix("//")


def open_filesystem(path: str, options: Mapping[str, str] | None = None) -> tuple[fs.FileSystem, str]:
    """The filesystem of `path`, and the path in it.

    `options` are the ones deltalake takes, or fsspec's arguments for schemes that only fsspec opens. Raises RecipeError
    for a URI whose scheme neither pyarrow nor fsspec opens.
    """
    if "://" not in path:
        return fs.LocalFileSystem(), os.path.abspath(path)
    path = arrow_uri(path)
    kind, authority = store_of(path)
    if kind in STORES and (options or urlsplit(path).scheme == "az"):
        return filesystem_with(kind, authority, options or {}), file_in("", path).rstrip("/")
    try:
        filesystem, folder = fs.FileSystem.from_uri(path)
        return filesystem, folder.rstrip("/")
    except pa.ArrowInvalid:
        return _fsspec(path, options)


def _fsspec(path: str, options: Mapping[str, str] | None) -> tuple[fs.FileSystem, str]:
    scheme = urlsplit(path).scheme
    try:
        import fsspec

        filesystem, folder = fsspec.core.url_to_fs(path, **(options or {}))
    except (ImportError, ValueError) as error:
        raise RecipeError(f"{path}: found the scheme {scheme!r}, expected one that pyarrow or fsspec opens") from error
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), str(folder).rstrip("/")


def read_with(
    filesystem: fs.FileSystem,
    path: str,
    size: int | None,
    cache: Cache | None,
    use: Callable[[pa.NativeFile, str | os.PathLike[str] | None], T],
) -> T:
    """Open the file of `size` bytes (None: not known) at `path` and return `use(file, local path or None)`.

    Local files are memory-mapped: shards never change, and pages are decoded straight from the page cache. Remote files
    go through `cache` if there is one. A failed read is retried, with growing pauses, up to 5 attempts in all, unless
    the file is missing. The last attempt without a cache downloads the whole file before it is used, so that a network
    that fails (ConnectionError) is told from a file that is damaged.
    """
    if isinstance(filesystem, fs.LocalFileSystem):
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise OSError("found no regular file, expected one")
        with pa.memory_map(path) as file:
            return use(file, path)
    for attempt in range(ATTEMPTS):
        try:
            if cache is None and attempt == ATTEMPTS - 1:
                return use(pa.BufferReader(_download(filesystem, path, size)), None)
            if cache is None or size is None:
                with filesystem.open_input_file(path) as file:
                    return use(file, None)
            return _use_copy(cache, path, size, lambda: _download(filesystem, path, size), use)
        except FileNotFoundError:
            raise
        except (OSError, pa.ArrowException):
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(FIRST_PAUSE_SECONDS * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _use_copy(
    cache: Cache,
    path: str,
    size: int,
    download: Callable[[], pa.Buffer],
    use: Callable[[pa.NativeFile, str | os.PathLike[str] | None], T],
) -> T:
    copy = cache.fetch(path, size, download)
    try:
        with pa.memory_map(str(copy)) as file:
            return use(file, copy)
    except FileNotFoundError as error:
        raise OSError(errno.EAGAIN, f"{copy}: another process removed the copy to make room") from error


def _download(filesystem: fs.FileSystem, path: str, size: int | None) -> pa.Buffer:
    try:
        with filesystem.open_input_stream(path) as file:
            data = file.read_buffer()
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise ConnectionError(str(error)) from error
    if size is not None and data.size != size:
        raise OSError(f"found {data.size} bytes, expected {size}")
    return data
