"""Where a dataset's files are: a local folder, a URI that pyarrow knows, or one that fsspec knows."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

import pyarrow as pa
from pyarrow import fs

from pipelines.errors import RecipeError


def open_filesystem(path: str, storage_options: dict[str, str] | None = None) -> tuple[fs.FileSystem, str]:
    """The filesystem of `path` and what it calls that folder.

    Raises RecipeError for a URI whose scheme neither pyarrow nor an installed fsspec knows.
    """
    if "://" not in path:
        return fs.LocalFileSystem(), os.path.abspath(path)
    try:
        filesystem, folder = fs.FileSystem.from_uri(path)
        return filesystem, folder.rstrip("/")
    except pa.ArrowInvalid as error:
        return _fsspec(path, storage_options, error)


def _fsspec(path: str, options: dict[str, str] | None, cause: Exception) -> tuple[fs.FileSystem, str]:
    scheme = urlsplit(path).scheme
    try:
        import fsspec

        filesystem, folder = fsspec.core.url_to_fs(path, **(options or {}))
    except (ImportError, ValueError) as error:
        raise RecipeError(f"{path}: found the scheme {scheme!r}, expected one that pyarrow or fsspec opens") from error
    return fs.PyFileSystem(fs.FSSpecHandler(filesystem)), str(folder).rstrip("/")
