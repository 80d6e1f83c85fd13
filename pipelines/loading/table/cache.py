"""Copies of remote shards on the local disk, safe for several processes, within a limit of bytes."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa


class Cache:
    """A folder of copies, each named by a hash of where it is from, with its checksum beside its content.

    Shards never change, so a copy cannot go stale. A copy is written under another name and renamed, so that no
    process sees half of one; it is checked on every read, and fetched again where it is damaged. Those used longest ago
    are removed beyond `limit` bytes; a process that has one open keeps its bytes until it is done.
    """

    def __init__(self, folder: str | os.PathLike[str], limit: int, origin: str) -> None:
        """`origin`: where the files are from, so that datasets may share a folder."""
        self._folder = Path(folder)
        self._origin, self._limit = origin, limit
        self._folder.mkdir(parents=True, exist_ok=True)

    def fetch(self, path: str, size: int, download: Callable[[], pa.Buffer]) -> Path:
        """A checked local copy of the file at `path`, downloaded if there is none. Raises what `download` raises."""
        name = hashlib.blake2b(f"{self._origin}\0{path}\0{size}".encode(), digest_size=16).hexdigest()
        copy, checksum = self._folder / f"{name}.shard", self._folder / f"{name}.sum"
        try:
            if checksum.read_bytes() == _checksum(copy.read_bytes()):
                return self._used(copy)
        except FileNotFoundError:
            pass
        data = download()
        self._write(checksum, _checksum(data))
        self._write(copy, data)
        self._shrink(self._used(copy))
        return copy

    @staticmethod
    def _used(copy: Path) -> Path:
        """Note that a copy was used now; the file system's own clock ticks too slowly to tell copies apart."""
        now = time.time_ns()
        os.utime(copy, ns=(now, now))
        return copy

    def _write(self, path: Path, data: bytes | pa.Buffer) -> None:
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".", delete=False) as file:
            file.write(data)
        os.replace(file.name, path)

    def _shrink(self, newest: Path) -> None:
        """Remove copies, the one used longest ago first, until the rest is within the limit; never the newest."""
        copies = []
        for copy in self._folder.glob("*.shard"):
            try:
                status = copy.stat()
            except FileNotFoundError:
                continue
            copies.append((status.st_mtime_ns, status.st_size, copy))
        excess = sum(size for _, size, _ in copies) - self._limit
        for _, size, copy in sorted(copies):
            if excess <= 0:
                return
            if copy != newest:
                copy.unlink(missing_ok=True)
                copy.with_suffix(".sum").unlink(missing_ok=True)
                excess -= size


def _checksum(data: bytes | pa.Buffer) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
