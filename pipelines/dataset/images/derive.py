"""Derived conditions: images computed from images, in Arrow batches, before the query explodes the rows."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, BinaryType, StringType, StructField, StructType

from headrace.errors import DataError, RecipeError
from headrace.images.edges import canny
from headrace.images.formats import BadImage
from headrace.images.pixels import Pixels, decode_as_stored, grayscale, over_white

LOWRES_SIDE = 16
PALETTE_COLORS = 8
PALETTE_PIXELS, PALETTE_ROUNDS = 4096, 20
"""k-means uses at most this many pixels of an image, evenly spaced, and stops after this many rounds"""
_BAND = 1 << 16
"""pixels that are given their colour at a time"""

Hook = Callable[[pa.RecordBatch], pa.Array]
"""a user's function: takes a batch of the source's rows and returns one encoded image for each, or null"""

CONDITIONS = ArrayType(StructType([StructField("kind", StringType()), StructField("image", BinaryType())]))
ARROW_CONDITIONS = pa.list_(pa.struct([("kind", pa.string()), ("image", pa.binary())]))


def silhouette(pixels: Pixels) -> Pixels | None:
    """The alpha channel as a grey image [H, W]; None for an image without one."""
    return pixels[:, :, 3] if pixels.ndim == 3 and pixels.shape[2] == 4 else None


def edges(pixels: Pixels) -> Pixels:
    """Canny edges [H, W] of the image over white, in grey: 255 on an edge."""
    return canny(grayscale(pixels))


def lowres(pixels: Pixels, side: int = LOWRES_SIDE) -> Pixels:
    """The image over white, shrunk by area averaging to a longer side of `side`. Smaller images are not scaled."""
    pixels = over_white(pixels)
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def palette(pixels: Pixels, colors: int = PALETTE_COLORS) -> Pixels:
    """The image over white, reduced to `colors` colours by k-means in BGR (Lloyd 1982) from a fixed start."""
    pixels = over_white(pixels)
    pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels
    pixels_N3 = pixels.reshape(-1, 3)
    sampled_M3 = pixels_N3[:: -(-len(pixels_N3) // PALETTE_PIXELS)].astype(np.float32)
    distinct = np.unique(sampled_M3, axis=0)
    centers_K3: np.ndarray = distinct
    if len(distinct) > colors:
        nearest = np.linspace(0, len(distinct) - 1, colors).round().astype(int)[np.newaxis]
        start = np.abs(sampled_M3[:, None] - distinct[nearest[0]]).sum(-1).argmin(1).astype(np.int32)
        criteria = (cv2.TERM_CRITERIA_MAX_ITER, PALETTE_ROUNDS, 0.0)
        centers_K3 = cv2.kmeans(sampled_M3, colors, start, criteria, 1, cv2.KMEANS_USE_INITIAL_LABELS)[2]
    made_N3 = np.empty_like(pixels_N3)
    for first in range(0, len(pixels_N3), _BAND):  # the distances of all pixels at once would fill gigabytes
        points_N3 = pixels_N3[first : first + _BAND].astype(np.float32)
        # argmin takes the first of equal distances, so the result does not depend on the machine.
        squares_NK = ((points_N3**2).sum(1)[:, None] - 2 * points_N3 @ centers_K3.T) + (centers_K3**2).sum(1)
        made_N3[first : first + _BAND] = centers_K3.round().astype(np.uint8)[squares_NK.argmin(1)]
    return made_N3.reshape(pixels.shape)


KINDS: dict[str, Callable[..., Pixels | None]] = {
    "silhouette": silhouette,
    "edges": edges,
    "grayscale": grayscale,
    "lowres": lowres,
    "palette": palette,
}


@dataclass(frozen=True)
class Conditions:
    """The conditions to derive, with their settings: names in `KINDS`, or hooks as `module:function`."""

    kinds: tuple[str, ...]
    settings: dict[str, dict[str, int]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise RecipeError for an unknown kind, a hook that cannot be imported, or a name that appears twice."""
        for kind in self.kinds:
            if ":" in kind:
                hook(kind)
            elif kind not in KINDS:
                raise RecipeError(
                    f"conditions: found {kind!r}, expected kinds among {', '.join(KINDS)}, or `module:function`"
                )
        names = [name_of(kind) for kind in self.kinds]
        if len(set(names)) < len(names):
            raise RecipeError(f"conditions: found {', '.join(names)}, expected each kind once")

    def of(self, pixels: Pixels | None) -> list[dict[str, object]] | None:
        """The conditions of one image as PNGs, without those of hooks; None if the image could not be decoded."""
        if pixels is None:
            return None
        plain = [kind for kind in self.kinds if ":" not in kind]
        made = ((kind, KINDS[kind](pixels, **self.settings.get(kind, {}))) for kind in plain)
        return [
            {"kind": kind, "image": cv2.imencode(".png", result)[1].tobytes()}
            for kind, result in made
            if result is not None
        ]

    def of_hooks(self, batch: pa.RecordBatch) -> list[tuple[str, pa.Array]]:
        """The name and the images of each hook for the rows of `batch`, in the order of `kinds`.

        Raises DataError if a hook fails, or returns anything but one binary value for each row.
        """
        found = []
        for kind in self.kinds:
            if ":" in kind:
                made = _called(kind, batch)
                if not isinstance(made, pa.Array) or made.type not in {pa.binary(), pa.large_binary()}:
                    raise DataError(
                        f"{kind}: found {getattr(made, 'type', type(made))}, expected an Arrow array of binary"
                    )
                if len(made) != batch.num_rows:
                    raise DataError(f"{kind}: found {len(made)} values for {batch.num_rows} rows, expected as many")
                found.append((name_of(kind), made.cast(pa.binary())))
        return found


def _called(kind: str, batch: pa.RecordBatch) -> pa.Array:
    try:
        return hook(kind)(batch)
    except Exception as error:
        message = f"{type(error).__name__}: " + str(error).split("\n", 1)[0]
        raise DataError(f"{kind}: found {message}, expected an Arrow array of binary") from error


def name_of(kind: str) -> str:
    """The name under which conditions of `kind` are stored: for a hook, the name of its function."""
    return kind.rpartition(":")[2]


def hook(path: str) -> Hook:
    """The function at `module:function`. Raises RecipeError if it cannot be imported."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"conditions: found {path!r}, expected a function that can be imported: {error}") from None
    if not callable(found):
        raise RecipeError(f"conditions: found {path!r}, which is not a function, expected one that takes Arrow batches")
    return found


def decoded(image: bytes | None, max_pixels: int | None = None) -> Pixels | None:
    """The pixels of an encoded image, as `decode_as_stored` returns them; None if the image is null or bad."""
    if image is None:
        return None
    try:
        return decode_as_stored(image, max_pixels)
    except BadImage:
        return None


def with_conditions(frame: DataFrame, kinds: Sequence[str], image: str = "image") -> DataFrame:
    """`frame` with a new column `conditions`, array<struct<kind, image>>: a PNG for each of `kinds` that the image has.

    The column is null where the image is null or cannot be decoded. Raises RecipeError for an unknown kind or column,
    and for hooks.
    """
    conditions = Conditions(tuple(kinds))
    conditions.check()
    if any(":" in kind for kind in kinds):
        raise RecipeError(f"conditions: found {', '.join(kinds)}, expected no hooks: only recipes have them")
    if image not in frame.columns:
        raise RecipeError(f"conditions: found no column {image!r}, expected one among {', '.join(frame.columns)}")
    schema = StructType([*frame.schema.fields, StructField("conditions", CONDITIONS)])

    def derive(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            made = [conditions.of(decoded(value.as_py())) for value in batch.column(image)]
            yield batch.append_column("conditions", pa.array(made, ARROW_CONDITIONS))

    return frame.mapInArrow(derive, schema)
