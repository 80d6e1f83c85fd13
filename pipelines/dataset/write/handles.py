"""From handles to dictionary arrays: the media of one shard, and the columns that refer to them.

Bytes are copied once, from the batches they arrive in to the dictionary that is written. It holds the media that
samples use, each distinct value once, in the order of first use.
"""

import numpy as np
import pyarrow as pa

INT32_MAX = (1 << 31) - 1
# Where to probe a value, in sixteenths of its length: values are compared whole only if these bytes agree.
PROBES = np.arange(1, 16, 2)
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Media:
    """The media of one shard. Batches are added as they arrive; after `seal`, media are found by row."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._rows = np.zeros(0, np.int64)
        self._order = np.zeros(0, np.int64)
        self._keys = pa.chunked_array([], pa.string())
        self._slots: dict[int, tuple[pa.ChunkedArray, np.ndarray]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Add a batch of `__row`, `__key` and a column `m<slot>` for each leaf, binary or list<binary>."""
        self._batches.append(batch)

    def seal(self) -> None:
        """Index the rows. No batch may be added afterwards."""
        if not self._batches:
            return
        table = pa.Table.from_batches(self._batches)
        self._batches.clear()
        rows = table.column("__row").to_numpy()
        self._order = np.argsort(rows)
        self._rows = rows[self._order]
        self._keys = table.column("__key")
        for name in table.column_names:
            if name.startswith("m"):
                self._slots[int(name[1:])] = _flat(table.column(name))

    def release(self) -> None:
        """Free the bytes; `key` still works."""
        self._slots.clear()

    def key(self, row: int) -> str | None:
        """The key of the source row with hash `row`, or None if the shard has no media of it."""
        at = int(np.searchsorted(self._rows, row))
        found = at < len(self._rows) and self._rows[at] == row
        return self._keys[int(self._order[at])].as_py() if found else None

    def places(self, slot: int, rows: np.ndarray, elements: np.ndarray) -> np.ndarray:
        """The indices of media in `values(slot)`, int64. Raises KeyError for a row that the shard does not have."""
        at = np.minimum(np.searchsorted(self._rows, rows), max(len(self._rows) - 1, 0))
        if len(self._rows) == 0 or (self._rows[at] != rows).any():
            raise KeyError("a sample names media of a row that its shard does not have")
        return self._slots[slot][1][self._order[at]] + elements

    def values(self, slot: int) -> pa.ChunkedArray:
        """All media of `slot`, a binary array."""
        return self._slots[slot][0]


def _flat(column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, np.ndarray]:
    """The values of all rows, and the index at which those of each row begin."""
    if not pa.types.is_list(column.type):
        return column, np.arange(len(column))
    counts = pa.compute.list_value_length(column).fill_null(0).to_numpy()
    starts = np.cumsum(counts) - counts
    return pa.chunked_array([chunk.flatten() for chunk in column.chunks], column.type.value_type), starts


def column_of_handles(column: pa.ChunkedArray, media: Media) -> pa.DictionaryArray:
    """The dictionary array of the bytes that a column of handles refers to; null handles and null bytes are null."""
    handles = column.combine_chunks()
    valid = handles.is_valid().to_numpy(zero_copy_only=False)
    rows, slots, elements = (
        pa.compute.struct_field(handles, name).fill_null(0).to_numpy()[valid]
        for name in ("__row", "__slot", "__element")
    )
    places, chunks, base = np.zeros(len(rows), np.int64), [], 0
    for slot in np.unique(slots):
        chosen, values = slots == slot, media.values(int(slot))
        places[chosen] = base + media.places(int(slot), rows[chosen], elements[chosen])
        base += len(values)
        chunks += values.chunks
    whole = np.full(len(valid), -1, np.int64)
    whole[valid] = places
    return _dictionary(whole, pa.chunked_array(chunks, pa.binary()))


def _dictionary(places: np.ndarray, values: pa.ChunkedArray) -> pa.DictionaryArray:
    """The dictionary array with `values[place]` for each place; null at -1 and where the value is null."""
    if values.null_count:
        null = values.is_null().to_numpy()
        places = np.where((places >= 0) & ~null[places], places, -1)
    used, indices = first_used(places)
    alike = _representatives(values, used)
    if (alike != np.arange(len(alike))).any():
        used, indices = first_used(np.where(indices >= 0, used[alike[indices]], -1))
    if values.nbytes > INT32_MAX:
        values = values.cast(pa.large_binary())
    dictionary = values.take(pa.array(used)).combine_chunks()
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32), mask=indices < 0), dictionary)


def first_used(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The places that occur, in the order of first use, and the index of each of `places` among them; -1 stays."""
    found, first, inverse = np.unique(places, return_index=True, return_inverse=True)
    if len(found) and found[0] < 0:
        found, first, inverse = found[1:], first[1:], inverse - 1
    order = np.argsort(first)
    rank = np.empty(len(found) + 1, np.int64)
    rank[order], rank[-1] = np.arange(len(found)), -1
    return found[order], rank[inverse]


def _representatives(values: pa.ChunkedArray, used: np.ndarray) -> np.ndarray:
    """For each of the `used` places of `values`, the index of the first of them with equal bytes.

    Arrow's Parquet writer drops a dictionary that repeats a value. Only values that agree in length and in a few bytes
    are compared whole.
    """
    alike = np.arange(len(used))
    prints = _fingerprints(values)[used] if len(used) else np.zeros(0, np.uint64)
    _, group, counts = np.unique(prints, return_inverse=True, return_counts=True)
    suspects = np.flatnonzero(counts[group] > 1)
    if len(suspects):
        encoded = values.take(pa.array(used[suspects])).combine_chunks().dictionary_encode().indices.to_numpy()
        _, first = np.unique(encoded, return_index=True)
        alike[suspects] = suspects[first[encoded]]
    return alike


def _fingerprints(values: pa.ChunkedArray) -> np.ndarray:
    """64 bits for each value, made from its length and eight of its bytes."""
    parts = []
    for chunk in values.chunks:
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1].astype(np.int64)
        lengths = np.diff(ends)
        places = ends[:-1, None] + lengths[:, None] * PROBES // 16
        content = np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8)
        probes = content[np.minimum(places, len(content) - 1)].view(np.uint64)[:, 0]
        probes[lengths == 0] = 0  # an empty value has no bytes to probe
        parts.append(probes ^ (lengths.astype(np.uint64) * _MIX))
    return np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def column_of_bytes(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """One dictionary array from a column whose batches each have their own dictionary."""
    return column.unify_dictionaries().combine_chunks()
