"""From handles to dictionary arrays: the media of one shard, and the columns that name them."""

import numpy as np
import pyarrow as pa

INT32_MAX = (1 << 31) - 1


class Media:
    """The media of one shard: batches are added as they come, then it is sealed and looked up by row."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._rows = np.zeros(0, np.int64)
        self._keys: list[str | None] = []
        self._slots: dict[int, tuple[pa.Array, np.ndarray]] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """Add a batch of `__row`, `__key` and a column `m<slot>` for each leaf, binary or list<binary>."""
        self._batches.append(batch)

    def seal(self) -> None:
        """Sort the rows for look-up and put the bytes of each slot into one array."""
        if not self._batches:
            return
        table = pa.Table.from_batches(self._batches)
        self._batches.clear()
        rows = table.column("__row").to_numpy()
        self._order = np.argsort(rows)
        self._rows = rows[self._order]
        self._keys = table.column("__key").to_pylist()
        for name in table.column_names:
            if name.startswith("m"):
                self._slots[int(name[1:])] = _flat(table.column(name))

    def key(self, row: int) -> str | None:
        """The key of the source row `row`, or None if it has no media here."""
        at = int(np.searchsorted(self._rows, row))
        return self._keys[self._order[at]] if at < len(self._rows) and self._rows[at] == row else None

    def places(self, slot: int, rows: np.ndarray, elements: np.ndarray) -> np.ndarray:
        """The places of media in the array of `slot`. Raises KeyError for one that is not here."""
        at = np.minimum(np.searchsorted(self._rows, rows), max(len(self._rows) - 1, 0))
        if len(self._rows) == 0 or (self._rows[at] != rows).any():
            raise KeyError("a sample names media of a row that its shard does not have")
        return self._slots[slot][1][self._order[at]] + elements

    def values(self, slot: int) -> pa.Array:
        """All bytes of `slot`, a binary array."""
        return self._slots[slot][0]


def _flat(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """The bytes of all rows in one array, and for each row where its own begin in it."""
    if not pa.types.is_list(column.type):
        return _joined(column.chunks, column.type), np.arange(len(column))
    lists = [chunk for chunk in column.chunks if len(chunk)]
    counts = np.concatenate([chunk.value_lengths().fill_null(0).to_numpy() for chunk in lists])
    starts = np.concatenate(([0], np.cumsum(counts)))[:-1]
    return _joined([chunk.flatten() for chunk in lists], column.type.value_type), starts


def _joined(chunks: list[pa.Array], data_type: pa.DataType) -> pa.Array:
    if sum(chunk.nbytes for chunk in chunks) > INT32_MAX:
        data_type = pa.large_binary()
    return pa.concat_arrays([chunk.cast(data_type) for chunk in chunks])


def column_of_handles(column: pa.ChunkedArray, media: Media) -> pa.DictionaryArray:
    """A dictionary array of the bytes that a column of handles names; a null handle is null."""
    handles = column.combine_chunks()
    valid = handles.is_valid().to_numpy(zero_copy_only=False)
    fields = [field.fill_null(0).to_numpy()[valid] for field in handles.flatten()]
    rows, slots, elements = fields
    indices, dictionaries, base = np.zeros(len(rows), np.int64), [], 0
    for slot in np.unique(slots):
        chosen = slots == slot
        places = media.places(int(slot), rows[chosen], elements[chosen])
        used, inverse = np.unique(places, return_inverse=True)
        indices[chosen] = base + inverse
        base += len(used)
        dictionaries.append(media.values(int(slot)).take(pa.array(used)))
    whole = np.zeros(len(valid), np.int32)
    whole[valid] = indices
    dictionary = _joined(dictionaries, pa.binary()) if dictionaries else pa.array([], pa.binary())
    return pa.DictionaryArray.from_arrays(pa.array(whole, mask=~valid), dictionary)


def column_of_bytes(column: pa.ChunkedArray) -> pa.DictionaryArray:
    """One dictionary array of a column whose batches have a dictionary each."""
    return column.unify_dictionaries().combine_chunks()
