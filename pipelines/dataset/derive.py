"""Derived conditions: images computed from images on Spark, in Arrow batches over unexploded rows."""

from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, BinaryType, StringType, StructField, StructType

from pipelines.errors import RecipeError

CANNY_LOW, CANNY_HIGH = 100, 200

Pixels = np.ndarray  # uint8 [H, W], [H, W, 3] BGR or [H, W, 4] BGRA, as OpenCV decodes them

CONDITIONS = ArrayType(StructType([StructField("kind", StringType()), StructField("image", BinaryType())]))
_ARROW_CONDITIONS = pa.list_(pa.struct([("kind", pa.string()), ("image", pa.binary())]))


def silhouette(pixels: Pixels) -> Pixels | None:
    """The alpha channel as a gray image [H, W]; None for an image that has none."""
    return pixels[:, :, 3] if pixels.ndim == 3 and pixels.shape[2] == 4 else None


def edges(pixels: Pixels) -> Pixels:
    """Canny edges [H, W] of the gray image over white, 255 on an edge (Canny 1986; thresholds 100 and 200)."""
    return cv2.Canny(grayscale(pixels), CANNY_LOW, CANNY_HIGH)


def grayscale(pixels: Pixels) -> Pixels:
    """Luma [H, W] of the image composed over white."""
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3:].astype(np.uint16)
        pixels = ((pixels[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)


KINDS: dict[str, Callable[[Pixels], Pixels | None]] = {
    "silhouette": silhouette,
    "edges": edges,
    "grayscale": grayscale,
}


def with_conditions(frame: DataFrame, kinds: Sequence[str], image: str = "image") -> DataFrame:
    """`frame` with the column `conditions` array<struct<kind, image>>: one PNG for each of `kinds` that there is.

    An image that cannot be decoded gets null, one that is null too. Raises RecipeError for an unknown kind or column.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise RecipeError(f"conditions: found {kind!r}, expected kinds among {', '.join(KINDS)}")
    if image not in frame.columns:
        raise RecipeError(f"conditions: found no column {image!r}, expected one among {', '.join(frame.columns)}")
    schema = StructType([*frame.schema.fields, StructField("conditions", CONDITIONS)])

    def derive(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            made = [conditions_of(value.as_py(), kinds) for value in batch.column(image)]
            yield batch.append_column("conditions", pa.array(made, _ARROW_CONDITIONS))

    return frame.mapInArrow(derive, schema)


def conditions_of(image: bytes | None, kinds: Sequence[str]) -> list[dict[str, object]] | None:
    """The conditions of one encoded image, each encoded as PNG; None if it cannot be decoded."""
    if not image:
        return None
    pixels = cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None:
        return None
    made = ((kind, KINDS[kind](pixels)) for kind in kinds)
    return [
        {"kind": kind, "image": cv2.imencode(".png", result)[1].tobytes()}
        for kind, result in made
        if result is not None
    ]
