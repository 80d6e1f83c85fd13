"""Which columns of a dataset hold images, and which of its rows use an image that is missing or broken.

Every binary column of the query's result holds images, however it was made, unless the recipe says otherwise. The rule
looks at names and types alone, so a query finds the same bad rows by reference and by value.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql.types import BinaryType, StructField, StructType

from headrace.dataset.query.media import ITEM, Path, binary_paths, name_of
from headrace.dataset.query.samples import Samples
from headrace.errors import RecipeError
from headrace.images.headers import read_header

Count = Callable[[str, np.ndarray], None]
"""takes a reason and the rows, true or false each, that are bad for it"""

NOT_IMAGES = "dataset.output.not_images"


def image_paths(
    samples: Samples, source: StructType, media: Sequence[str] | None, not_images: Sequence[str]
) -> tuple[Path, ...]:
    """The places of the query's result that hold images, in its order; the first that is not repeated is the image.

    `source` is the schema of the view, `media` the recipe's `source.media`. Raises RecipeError for a name in
    `not_images` that is no binary column.
    """
    stored = [StructField(f.name, BinaryType()) if f.name in samples.handles else f for f in samples.schema.fields]
    paths = {name_of(path): path for path in binary_paths(StructType(stored))}
    for name in not_images:
        if name not in paths:
            raise RecipeError(
                f"{NOT_IMAGES}: found {name!r}, expected among the binary columns of the query: "
                f"{', '.join(paths) or 'it has none'}"
            )
    other = {name.lower() for name in not_images}
    if media is not None:
        other |= {name_of(path).lower() for path in binary_paths(source)} - {name.lower() for name in media}
    return tuple(path for name, path in paths.items() if name.lower() not in other)


def count_bad_rows(table: pa.Table, images: Sequence[Path], max_pixels: int | None, count: Count) -> None:
    """Call `count` for each reason why rows of `table` are bad. Media columns are dictionaries, one chunk each."""
    main = next((path for path in images if ITEM not in path), None)
    for path in images:
        name, column = name_of(path), table.column(path[0])
        if path == main:
            count(f"{name} is missing", ~_present(column, path))
        found: dict[str, np.ndarray] = {}
        for values, rows in _values(column, path):
            for reason, places in _problems(values, max_pixels).items():
                bad = found.setdefault(reason, np.zeros(table.num_rows, bool))
                bad[rows[places]] = True
        for reason in sorted(found):
            count(f"{name}: {reason}", found[reason])


def _present(column: pa.ChunkedArray, path: Path) -> np.ndarray:
    """The rows whose value at `path`, which is not repeated, is not null."""
    present = np.zeros(len(column), bool)
    for values, rows in _values(column, path):
        present[rows[values.is_valid().to_numpy(zero_copy_only=False)]] = True
    return present


def _values(column: pa.ChunkedArray, path: Path) -> Iterator[tuple[pa.Array, np.ndarray]]:
    """The values at `path`, a chunk at a time, and the row of each."""
    start = 0
    for chunk in column.chunks:
        values, rows = chunk, np.arange(start, start + len(chunk))
        start += len(chunk)
        for part in path[1:]:
            if part == ITEM:
                values, rows = _items(values, rows)
            else:
                values = pc.struct_field(values, part)
        yield values, rows


def _items(values: pa.Array, rows: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """The elements of arrays, or the values of maps, and the row of each."""
    is_map = pa.types.is_map(values.type)
    if is_map:
        entry = pa.struct([("key", values.type.key_type), ("value", values.type.item_type)])
        values = values.cast(pa.list_(entry))
    rows = np.repeat(rows, pc.list_value_length(values).fill_null(0).to_numpy())
    items = values.flatten()
    return (pc.struct_field(items, "value") if is_map else items), rows


def _problems(values: pa.Array, max_pixels: int | None) -> dict[str, np.ndarray]:
    """For each problem, the indices of the values that have it. The values of a dictionary are read once each."""
    in_dictionary = pa.types.is_dictionary(values.type)
    stored = values.dictionary if in_dictionary else values
    problems = np.array([_problem(value.as_py(), max_pixels) for value in stored] or [""])
    if in_dictionary:
        indices = values.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        problems = np.where(indices >= 0, problems[indices], "")
    return {str(problem): np.flatnonzero(problems == problem) for problem in set(problems) - {""}}


def _problem(image: bytes | None, max_pixels: int | None) -> str:
    """What is wrong with an image; the empty string if it is null or in order."""
    return "" if image is None else read_header(image, max_pixels).problem or ""
