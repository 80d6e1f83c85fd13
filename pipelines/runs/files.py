"""Files that are either there whole or not at all, also after a crash of the machine."""

import hashlib
import os
import shutil
from pathlib import Path

CHUNK_BYTES = 1 << 20


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's entries, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a whole file by way of a hidden neighbour and an atomic rename."""
    hidden = path.with_name(f".{path.name}.tmp")
    hidden.write_text(text, encoding="utf-8")
    sync(hidden)
    hidden.rename(path)
    sync(path.parent)


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
