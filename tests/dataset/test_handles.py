"""Media of a shard and the dictionary arrays that refer to them, compared with Python's dictionaries and lists."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.dataset.write.handles import Media, column_of_handles, first_used

HANDLE = pa.struct([("__row", pa.int64()), ("__order", pa.int64()), ("__slot", pa.int32()), ("__element", pa.int32())])
LISTED = pa.schema([("__row", pa.int64()), ("__key", pa.string()), ("m0", pa.binary()), ("m1", pa.list_(pa.binary()))])

# Few and similar values: equal ones, ones of the same length that differ in a byte, empty ones, null.
values = st.none() | st.sampled_from([b"", b"a", b"b", b"x" * 40, b"x" * 39 + b"y", bytes(range(40))])
rows = st.lists(st.tuples(values, st.none() | st.lists(values, max_size=3)), min_size=1, max_size=8)


def media_of(content: list, batches: int) -> Media:
    media = Media()
    for part in range(batches):
        chosen = [
            {"__row": 10 * i, "__key": f"key {i}", "m0": image, "m1": more}
            for i, (image, more) in enumerate(content)
            if i % batches == part
        ]
        media.add(pa.RecordBatch.from_pylist(chosen, LISTED))
    media.seal()
    return media


@settings(max_examples=80, deadline=None)
@given(content=rows, batches=st.integers(1, 3), data=st.data())
def test_names_what_the_handles_say(content: list, batches: int, data: st.DataObject) -> None:
    named = [(i, 0, 0) for i in range(len(content))]
    named += [(i, 1, j) for i, (_, more) in enumerate(content) for j in range(len(more or []))]
    request = data.draw(st.lists(st.none() | st.sampled_from(named), max_size=12))
    handles = [
        None if a is None else {"__row": 10 * a[0], "__order": 0, "__slot": a[1], "__element": a[2]} for a in request
    ]
    column = column_of_handles(pa.chunked_array([pa.array(handles, HANDLE)]), media_of(content, batches))
    wanted = [None if a is None else content[a[0]][0] if a[1] == 0 else content[a[0]][1][a[2]] for a in request]
    assert column.to_pylist() == wanted
    # Each value occurs once, in the order of first use, and none is unused.
    assert column.dictionary.to_pylist() == list(dict.fromkeys(value for value in wanted if value is not None))


@given(places=st.lists(st.integers(-1, 6), max_size=30))
def test_first_used(places: list[int]) -> None:
    used, indices = first_used(np.array(places, np.int64))
    assert list(used) == list(dict.fromkeys(place for place in places if place >= 0))
    assert [used[i] if i >= 0 else -1 for i in indices] == places


def test_knows_keys_after_the_bytes_are_gone() -> None:
    media = media_of([(b"a", None), (b"b", [])], 2)
    media.release()
    assert (media.key(0), media.key(10), media.key(5)) == ("key 0", "key 1", None)


def test_empty_values_are_one_value_wherever_they_lie() -> None:
    media = media_of([(None, None), (b"", None), (b"a", [b""])], 1)
    handles = [{"__row": row, "__order": 0, "__slot": slot, "__element": 0} for row, slot in ((20, 1), (10, 0))]
    column = column_of_handles(pa.chunked_array([pa.array(handles, HANDLE)]), media)
    assert column.to_pylist() == [b"", b""]
    assert column.dictionary.to_pylist() == [b""]


def test_a_row_that_is_not_there() -> None:
    handle = {"__row": 7, "__order": 0, "__slot": 0, "__element": 0}
    with pytest.raises(KeyError, match="does not have"):
        column_of_handles(pa.chunked_array([pa.array([handle], HANDLE)]), media_of([(b"a", None)], 1))
