"""A local file held open, so that its bytes can be had in place for as long as anyone needs them."""

from __future__ import annotations

import mmap
import os

import numpy as np


class LocalFile:
    """An open file. It stays readable when the file is removed, and closes when it is forgotten."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.descriptor = -1
        self.descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._mapped: np.ndarray | None = None

    def read_into(self, room: np.ndarray, offset: int) -> None:
        """Fill `room`, uint8, from `offset` on. Raises OSError where the file ends before."""
        done = os.preadv(self.descriptor, [room.data], offset)
        while done < room.size:
            more = os.preadv(self.descriptor, [room[done:].data], offset + done)
            if not more:
                raise OSError(f"found the file's end at {offset + done}, expected {room.size - done} bytes more")
            done += more

    def mapped(self) -> np.ndarray:
        """The whole file as uint8, in the system's page cache: it takes no memory of its own.

        Its pages are entered all at once, which costs a third of entering them one by one as they are met.
        """
        if self._mapped is None:
            flags = mmap.MAP_SHARED | mmap.MAP_POPULATE
            self._mapped = np.frombuffer(mmap.mmap(self.descriptor, 0, flags=flags, prot=mmap.PROT_READ), np.uint8)
        return self._mapped

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
