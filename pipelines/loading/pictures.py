"""The encoded images of a shard: each stored once, decoded once for all rows of the window that show it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.loading.budget import Lease
from pipelines.loading.columns import one_array
from pipelines.loading.decode import BadImage


class _Slot:
    """A decoded image that is there, or is on its way."""

    def __init__(self, nbytes: int) -> None:
        self.ready = threading.Event()
        self.nbytes = nbytes
        self.pixels: np.ndarray | None = None
        self.error: BadImage | None = None


class Pictures:
    """One media column of a shard.

    `picture_of_row`: int64, which picture each row shows, −1 for null. The pictures' bytes stay in Arrow's buffers.
    """

    def __init__(self, column: pa.ChunkedArray, lease: Lease, keep: bool) -> None:
        """`keep`: hold decoded images for as long as the shard is held, for datasets that fit in memory."""
        if pa.types.is_struct(column.type):
            column = pc.struct_field(column, "bytes")
        if pa.types.is_dictionary(column.type):
            array = one_array(column.unify_dictionaries())
            self.picture_of_row = array.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
            values = array.dictionary
        else:
            values = one_array(column)
            self.picture_of_row = np.where(values.is_valid().to_numpy(zero_copy_only=False), np.arange(len(values)), -1)
        wide = pa.types.is_large_binary(values.type)
        _, offsets, data = values.buffers()
        self._offsets = np.frombuffer(offsets or b"", np.int64 if wide else np.int32)[values.offset :]
        self._data = np.frombuffer(data or b"", np.uint8)
        self._values = values
        self.rows_left = np.bincount(self.picture_of_row[self.picture_of_row >= 0], minlength=len(values))
        self._slots: dict[int, _Slot] = {}
        self._lock = threading.Lock()
        self._lease, self._keep = lease, keep

    def __len__(self) -> int:
        return len(self._values)

    @property
    def nbytes(self) -> int:
        """Bytes of the encoded images and of the map from rows to them."""
        return self._values.nbytes + self.picture_of_row.nbytes

    def encoded(self, picture: int) -> np.ndarray:
        """The bytes of a picture, uint8, not copied."""
        return self._data[self._offsets[picture] : self._offsets[picture + 1]]

    def pixels(self, picture: int, decode: Callable[[np.ndarray], np.ndarray], nbytes: int) -> tuple[np.ndarray, bool]:
        """A picture's pixels for one row that shows it, and whether that took a call of `decode`.

        The first of several rows decodes, the others find (or wait for) its result, provided that the byte budget has
        room for about `nbytes` more; else each decodes for itself. Raises what `decode(encoded)` raises.
        """
        with self._lock:
            slot = self._slots.get(picture)
            mine = slot is None
            if mine and (self._keep or self.rows_left[picture] > 1) and self._lease.try_grow(nbytes):
                slot = self._slots[picture] = _Slot(nbytes)
        if slot is None:
            return decode(self.encoded(picture)), True
        if mine:
            self._fill(slot, picture, decode)
        slot.ready.wait()
        self._count_down(picture)
        if slot.pixels is None:
            raise slot.error or BadImage("corrupt")
        return slot.pixels, mine

    def _fill(self, slot: _Slot, picture: int, decode: Callable[[np.ndarray], np.ndarray]) -> None:
        try:
            slot.pixels = decode(self.encoded(picture)).copy()
            self._lease.grow(slot.pixels.nbytes - slot.nbytes)
            slot.nbytes = slot.pixels.nbytes
        except BadImage as error:
            slot.error = error
        finally:
            slot.ready.set()

    def _count_down(self, picture: int) -> None:
        """Let go of a picture when its last row has been served."""
        with self._lock:
            self.rows_left[picture] -= 1
            if self.rows_left[picture] <= 0 and not self._keep and (slot := self._slots.pop(picture, None)):
                self._lease.grow(-slot.nbytes)
