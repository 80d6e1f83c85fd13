"""Facts and conditions of each image of the source, computed before the query runs, and which rows to drop.

One pass over the unexploded rows, in Arrow batches, decodes each image at most once, and only if its header is valid.
The result is kept on disk while the build runs, because both the query and the write stage read it.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_type
from pyspark.sql.types import BinaryType, DataType, IntegerType, LongType, NullType, StringType, StructField, StructType

from headrace.dataset.images.derive import ARROW_CONDITIONS, CONDITIONS, Conditions, decoded
from headrace.dataset.images.duplicates import near_duplicates
from headrace.dataset.query.media import find_leaves, quoted
from headrace.dataset.source.account import DROPPED
from headrace.errors import RecipeError
from headrace.images.hashes import content_hash, perceptual_hash
from headrace.images.headers import MAX_PIXELS, Header, read_header
from headrace.images.pixels import Pixels
from headrace.recipe.dataset import Images

FACTS: dict[str, DataType] = {
    "format": StringType(),
    "width": IntegerType(),
    "height": IntegerType(),
    "content_hash": StringType(),
    "perceptual_hash": LongType(),
}
"""the type of each fact's column"""
HASH, PIXELS = "__perceptual_hash", "__pixels"
"""hidden columns that find near-duplicates"""


@dataclass(frozen=True)
class _Work:
    """The parts of the recipe and the source that a task needs."""

    images: Images
    conditions: Conditions
    columns: tuple[str, ...]
    path: tuple[str, ...]
    """the column of the images, and the fields inside it"""

    @property
    def decodes(self) -> bool:
        near = self.images.drop_near_duplicates is not None
        plain = any(":" not in kind for kind in self.images.conditions)
        return plain or near or self.images.drop_undecodable or "perceptual_hash" in self.images.facts


def conditions_of(images: Images) -> Conditions:
    """The conditions that the recipe asks for."""
    settings = {"lowres": {"side": images.lowres_side}, "palette": {"colors": images.palette_colors}}
    return Conditions(images.conditions, settings)


def with_images(source: DataFrame, images: Images, kept: Collection[str]) -> DataFrame:
    """The columns `kept` of `source`, the facts and conditions of its images, and the hidden columns.

    No row is removed yet: `DROPPED` gives the reason for each row to remove. Raises RecipeError for a column that is
    missing, or whose name is taken.
    """
    _check_columns(source, images)
    path = path_of(source.schema, images)
    columns = [name for name in source.columns if name in {*kept, path[0], DROPPED}]
    frame = source.select(*(F.col(quoted(name)) for name in columns))
    work = _Work(images, conditions_of(images), tuple(columns), path)
    return frame.mapInArrow(_stage(work), image_schema(frame.schema, images))


def check_images(images: Images) -> None:
    """Raise RecipeError for unknown conditions, and for a `max_pixels` above the loader's limit."""
    try:
        conditions_of(images).check()
    except RecipeError as error:
        raise RecipeError(f"dataset.images.{error}") from None
    if images.max_pixels is not None and images.max_pixels > MAX_PIXELS:
        raise RecipeError(
            f"dataset.images.max_pixels: found {images.max_pixels}, expected at most {MAX_PIXELS}, the loader's limit"
        )


def image_schema(schema: StructType, images: Images) -> StructType:
    """The schema of `with_images` over columns of `schema`."""
    taken = {DROPPED, *([images.into] if images.conditions else [])}
    fields = [field for field in schema.fields if field.name not in taken]
    fields += [StructField(name, FACTS[name]) for name in images.facts]
    if images.conditions:
        fields.append(StructField(images.into, CONDITIONS))
    hidden = [(DROPPED, StringType()), (HASH, FACTS["perceptual_hash"]), (PIXELS, FACTS["perceptual_hash"])]
    return StructType([*fields, *(StructField(name, kind) for name, kind in hidden)])


def without_near_duplicates(frame: DataFrame, images: Images, key: str) -> tuple[DataFrame, DataFrame | None]:
    """`frame` without near-duplicates, and the keys of the rows left out; None if the recipe keeps near-duplicates."""
    if images.drop_near_duplicates is None:
        return frame, None
    facts = frame.select(F.col(quoted(key)).alias("key"), F.col(HASH).alias("hash"), F.col(PIXELS).alias("pixels"))
    gone = near_duplicates(facts, images.drop_near_duplicates).persist()
    left_out = gone.select(F.col("key").alias("__left_out"))  # the source may have a column `key` of its own
    return frame.join(left_out, F.col(quoted(key)) == F.col("__left_out"), "left_anti"), gone


def path_of(schema: StructType, images: Images) -> tuple[str, ...]:
    """The column of the images, and the fields inside it: `image.bytes` is a field, unless a column has that name."""
    return (images.column,) if images.column in schema.fieldNames() else tuple(images.column.split("."))


def column_at(schema: StructType, images: Images) -> Column:
    """The images of a frame of `schema`."""
    head, *fields = path_of(schema, images)
    column = F.col(quoted(head))
    for name in fields:
        column = column.getField(name)
    return column


def _check_columns(source: DataFrame, images: Images) -> None:
    found: DataType = source.schema
    for name in path_of(source.schema, images):
        found = found[name].dataType if isinstance(found, StructType) and name in found.fieldNames() else NullType()
    if not isinstance(found, BinaryType):
        binary = [leaf.name for leaf in find_leaves(source.schema) if not leaf.repeated]
        raise RecipeError(
            f"dataset.images.column: found {images.column!r}, expected a binary column of the source: "
            f"{', '.join(binary) or 'it has none'}"
        )
    for name in images.facts:
        if name in source.columns:
            raise RecipeError(
                f"dataset.images.facts: found a column {name!r} in the source, expected none of that name"
            )
    if images.conditions and images.into in source.columns:
        found = source.schema[images.into].dataType
        if found.simpleString() != CONDITIONS.simpleString():
            raise RecipeError(
                f"dataset.images.into: found {images.into!r} of type {found.simpleString()}, expected "
                f"{CONDITIONS.simpleString()} or a free name"
            )


def _stage(work: _Work) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    images = work.images

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            columns = {name: batch.column(name) for name in work.columns}
            head, *fields = work.path
            encoded = pc.struct_field(columns[head], fields) if fields else columns[head]
            given_up = columns.pop(DROPPED, None)
            found = [_found(value.as_py(), work) for value in encoded]
            for name in images.facts:
                columns[name] = pa.array([one.facts[name] for one in found], to_arrow_type(FACTS[name]))
            if images.conditions:
                given = columns.pop(images.into, None)
                columns[images.into] = _conditions(work.conditions, batch, given, [one.conditions for one in found])
            dropped = pa.array([one.dropped for one in found], pa.string())
            columns[DROPPED] = dropped if given_up is None else pc.coalesce(given_up, dropped)
            columns[HASH] = pa.array([one.facts.get("perceptual_hash") for one in found], pa.int64())
            columns[PIXELS] = pa.array([one.pixels for one in found], pa.int64())
            yield pa.RecordBatch.from_pydict(columns)

    return run


@dataclass(frozen=True)
class _Found:
    facts: dict[str, object]
    conditions: list[dict[str, object]] | None
    pixels: int
    dropped: str | None


def _found(image: bytes | None, work: _Work) -> _Found:
    images = work.images
    head = read_header(image, images.max_pixels) if image is not None else Header(problem="missing")
    pixels = decoded(image, images.max_pixels) if work.decodes else None
    near = [] if images.drop_near_duplicates is None else ["perceptual_hash"]
    facts: dict[str, object] = {name: _fact(name, image, head, pixels) for name in (*images.facts, *near)}
    return _Found(
        facts, work.conditions.of(pixels), (head.width or 0) * (head.height or 0), _reason(images, head, pixels)
    )


def _fact(name: str, image: bytes | None, header: Header, pixels: Pixels | None) -> object:
    """The value of the column `name` for one image; None where the image is null or the fact is unknown."""
    if image is None:
        return None
    if name == "content_hash":
        return content_hash(image)
    if name == "perceptual_hash":
        return None if pixels is None else perceptual_hash(pixels)
    return getattr(header, name)


def _reason(images: Images, head: Header, pixels: Pixels | None) -> str | None:
    """Why the row is dropped, or None."""
    if images.drop_undecodable and pixels is None:
        return f"{images.column} cannot be decoded"
    if head.width is not None and head.height is not None and min(head.width, head.height) < images.min_side:
        return f"{images.column} has a side shorter than {images.min_side}"
    return None


def _conditions(
    conditions: Conditions, batch: pa.RecordBatch, given: pa.Array | None, derived: list[list[dict[str, object]] | None]
) -> pa.Array:
    """The conditions of each row: the source's, then derived ones. Null where a row has neither."""
    hooked = conditions.of_hooks(batch)
    made = []
    for row, own in enumerate(derived):
        before = None if given is None else given[row].as_py()
        of_hooks = [{"kind": kind, "image": images[row].as_py()} for kind, images in hooked if images[row].is_valid]
        every = [*(before or []), *(own or []), *of_hooks]
        made.append(every if every or before is not None or own is not None else None)
    return pa.array(made, ARROW_CONDITIONS)
