"""The encoded images of a shard. Each is stored once, and decoded once for all rows of the window that use it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.loading.shard.budget import Lease
from headrace.loading.shard.columns import one_array
from headrace.loading.shard.pages import LocalFile, Values

_thread = threading.local()


class Encoded(Protocol):
    """Encoded images by number."""

    picture_of_row: np.ndarray
    """int64: the number of each row's picture, −1 for null"""
    nbytes: int
    """bytes of memory that they occupy"""

    def __len__(self) -> int: ...

    def encoded_bytes(self, picture: int) -> np.ndarray:
        """The bytes of a picture, uint8. The thread's next call may overwrite them."""


class InMemory:
    """Images in Arrow's buffers: a column of binary, of dictionary-encoded binary, or of structs with `bytes`."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        if pa.types.is_struct(column.type):
            column = pc.struct_field(column, "bytes")
        if pa.types.is_dictionary(column.type):
            array = one_array(column.unify_dictionaries())
            self.picture_of_row = array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            values = array.dictionary
        else:
            values = one_array(column)
            if not (pa.types.is_binary(values.type) or pa.types.is_large_binary(values.type)):
                values = values.cast(pa.large_binary())
            self.picture_of_row = np.where(values.is_valid().to_numpy(zero_copy_only=False), np.arange(len(values)), -1)
        wide = pa.types.is_large_binary(values.type)
        _, offsets, data = values.buffers()
        self._offsets = np.frombuffer(offsets or b"", np.int64 if wide else np.int32)[values.offset :]
        self._data = np.frombuffer(data or b"", np.uint8)
        self._values = values
        self.nbytes = values.nbytes + self.picture_of_row.nbytes

    def __len__(self) -> int:
        return len(self._values)

    def encoded_bytes(self, picture: int) -> np.ndarray:
        return self._data[self._offsets[picture] : self._offsets[picture + 1]]


class InFile:
    """Images that stay in their file until they are needed."""

    def __init__(self, file: LocalFile, values: Values) -> None:
        self._file, self._values = file, values
        self.picture_of_row = values.value_of_row
        self.nbytes = values.offsets.nbytes + values.lengths.nbytes + values.value_of_row.nbytes

    def __len__(self) -> int:
        return len(self._values.offsets)

    def encoded_bytes(self, picture: int) -> np.ndarray:
        room = _room(int(self._values.lengths[picture]))
        self._file.read_into(room, int(self._values.offsets[picture]))
        return room


def _room(count: int) -> np.ndarray:
    """A buffer of this thread, which each call overwrites."""
    memory = getattr(_thread, "memory", None)
    if memory is None or memory.size < count:
        memory = _thread.memory = np.empty(max(count, 1 << 17), np.uint8)
    return memory[:count]


class _Slot:
    """A decoded image, or one that a thread is decoding."""

    def __init__(self, nbytes: int) -> None:
        self.ready = threading.Event()
        self.nbytes = nbytes
        self.pixels: np.ndarray | None = None
        self.error: BaseException | None = None


class Pictures:
    """One media column of a shard, with the decoded images that other rows of the window will need again."""

    def __init__(self, encoded: Encoded, lease: Lease, keep: bool) -> None:
        """`keep`: hold decoded images for as long as the shard is open, for datasets that fit in memory."""
        self.encoded = encoded
        self.picture_of_row = encoded.picture_of_row
        self._rows_left = np.bincount(self.picture_of_row[self.picture_of_row >= 0], minlength=len(encoded))
        self._slots: dict[int, dict[Hashable, _Slot]] = {}
        self._lock = threading.Lock()
        self._lease, self._keep = lease, keep

    def pixels(
        self, picture: int, decode: Callable[[np.ndarray], np.ndarray], nbytes: int, size: Hashable = None
    ) -> tuple[np.ndarray, bool]:
        """A picture's pixels for one of the rows that use it at `size`, and whether this call decoded them.

        The first of several rows decodes; the others use its result, or wait for it, if the byte budget has room for
        about `nbytes` more. If not, each row decodes for itself. Raises what `decode(encoded)` raises.
        """
        if self._rows_left[picture] <= 1 and not self._keep and not self._slots:
            return decode(self.encoded.encoded_bytes(picture)), True
        with self._lock:
            slot = self._slots.get(picture, {}).get(size)
            mine = slot is None
            if mine and (self._keep or self._rows_left[picture] > 1) and self._lease.try_grow(nbytes):
                slot = self._slots.setdefault(picture, {})[size] = _Slot(nbytes)
        if slot is None:
            self._count_down(picture)
            return decode(self.encoded.encoded_bytes(picture)), True
        if mine:
            self._fill(slot, picture, decode)
        slot.ready.wait()
        self._count_down(picture)
        if slot.error is not None:
            raise slot.error
        assert slot.pixels is not None
        return slot.pixels, mine

    def _fill(self, slot: _Slot, picture: int, decode: Callable[[np.ndarray], np.ndarray]) -> None:
        try:
            slot.pixels = decode(self.encoded.encoded_bytes(picture)).copy()
            self._lease.grow(slot.pixels.nbytes - slot.nbytes)
            slot.nbytes = slot.pixels.nbytes
        except BaseException as error:
            slot.error = error
        finally:
            slot.ready.set()

    def _count_down(self, picture: int) -> None:
        """Release a picture when its last row has been served."""
        with self._lock:
            self._rows_left[picture] -= 1
            if self._rows_left[picture] <= 0 and not self._keep:
                for slot in self._slots.pop(picture, {}).values():
                    self._lease.grow(-slot.nbytes)
