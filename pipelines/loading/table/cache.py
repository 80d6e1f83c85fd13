"""Copies of remote shards on the local disk, within a byte limit, shared safely by several processes."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from headrace.files import atomic


class Cache:
    """A folder of copies. Each is named by a hash of its origin and has a checksum file beside it.

    Shards never change, so a copy cannot go stale. A copy is written under a temporary name and renamed, so no process
    reads half of one. It is checked on every read and downloaded again if it is damaged. Above `limit` bytes, the least
    recently used copies are removed; a process that has one open can go on reading it.
    """

    def __init__(self, folder: str | os.PathLike[str], limit: int, origin: str) -> None:
        """`origin` names the dataset that the files come from, so that several datasets can share a folder."""
        self._folder = Path(folder)
        self._origin, self._limit = origin, limit
        self._folder.mkdir(parents=True, exist_ok=True)

    def fetch(self, path: str, size: int, download: Callable[[], pa.Buffer]) -> Path:
        """A checked local copy of the file of `size` bytes at `path`, downloaded if there is none.

        Raises what `download` raises.
        """
        name = hashlib.blake2b(f"{self._origin}\0{path}\0{size}".encode(), digest_size=16).hexdigest()
        copy, checksum = self._folder / f"{name}.shard", self._folder / f"{name}.sum"
        try:
            if checksum.read_bytes() == _checksum(copy.read_bytes()):
                return self._used(copy)
        except FileNotFoundError:
            pass
        data = download()
        try:
            self._write(copy, data)
            self._write(checksum, _checksum(data))
            self._shrink(self._used(copy))
        except BaseException:
            copy.unlink(missing_ok=True)
            checksum.unlink(missing_ok=True)
            raise
        return copy

    @staticmethod
    def _used(copy: Path) -> Path:
        """Record that a copy was used now: the file system's own clock ticks too slowly to order copies."""
        now = time.time_ns()
        os.utime(copy, ns=(now, now))
        return copy

    def _write(self, path: Path, data: bytes | pa.Buffer) -> None:
        with atomic(path, durable=False) as hidden, hidden.open("wb") as file:  # every read checks the copy
            file.write(data)

    def _shrink(self, newest: Path) -> None:
        """Remove copies, least recently used first, until the rest fits the limit; `newest` always stays."""
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
