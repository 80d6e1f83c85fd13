"""Derived conditions: images computed from images, in Arrow batches over unexploded rows."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql.types import ArrayType, BinaryType, StringType, StructField, StructType

from headrace.dataset.images.check import MAX_PIXELS, problem
from headrace.errors import DataError, RecipeError

CANNY_LOW, CANNY_HIGH = 100, 200
LOWRES_SIDE = 16
PALETTE_COLORS = 8
# k-means sees at most so many pixels of an image, evenly spread, and stops after so many rounds.
PALETTE_PIXELS, PALETTE_ROUNDS = 4096, 20

Pixels = np.ndarray  # uint8 [H, W], [H, W, 3] BGR or [H, W, 4] BGRA, as OpenCV decodes them
# A user's function: from a batch of the source's rows to the condition of each as an encoded image, null for none.
Hook = Callable[[pa.RecordBatch], pa.Array]

CONDITIONS = ArrayType(StructType([StructField("kind", StringType()), StructField("image", BinaryType())]))
ARROW_CONDITIONS = pa.list_(pa.struct([("kind", pa.string()), ("image", pa.binary())]))


def silhouette(pixels: Pixels) -> Pixels | None:
    """The alpha channel as a gray image [H, W]; None for an image that has none."""
    return pixels[:, :, 3] if pixels.ndim == 3 and pixels.shape[2] == 4 else None


def edges(pixels: Pixels) -> Pixels:
    """Canny edges [H, W] of the gray image over white, 255 on an edge (Canny 1986; thresholds 100 and 200)."""
    return cv2.Canny(grayscale(pixels), CANNY_LOW, CANNY_HIGH)


def over_white(pixels: Pixels) -> Pixels:
    """The image without alpha, composed over white: [H, W] or [H, W, 3]."""
    if pixels.ndim == 2 or pixels.shape[2] != 4:
        return pixels
    alpha = pixels[:, :, 3:].astype(np.uint16)
    return ((pixels[:, :, :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def grayscale(pixels: Pixels) -> Pixels:
    """Luma [H, W] of the image composed over white."""
    pixels = over_white(pixels)
    return pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)


def lowres(pixels: Pixels, side: int = LOWRES_SIDE) -> Pixels:
    """The image over white, shrunk by areas until its longer side is `side`; a smaller one stays as it is."""
    pixels = over_white(pixels)
    height, width = pixels.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return pixels
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)


def palette(pixels: Pixels, colors: int = PALETTE_COLORS) -> Pixels:
    """The image over white in its `colors` most typical colours: k-means in BGR (Lloyd 1982) from a fixed start."""
    pixels = over_white(pixels)
    pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR) if pixels.ndim == 2 else pixels
    points_N3 = pixels.reshape(-1, 3).astype(np.float32)
    seen_M3 = points_N3[:: -(-len(points_N3) // PALETTE_PIXELS)]
    distinct = np.unique(seen_M3, axis=0)
    centers_K3: np.ndarray = distinct
    if len(distinct) > colors:
        nearest = np.linspace(0, len(distinct) - 1, colors).round().astype(int)[np.newaxis]
        start = np.abs(seen_M3[:, None] - distinct[nearest[0]]).sum(-1).argmin(1).astype(np.int32)
        criteria = (cv2.TERM_CRITERIA_MAX_ITER, PALETTE_ROUNDS, 0.0)
        centers_K3 = cv2.kmeans(seen_M3, colors, start, criteria, 1, cv2.KMEANS_USE_INITIAL_LABELS)[2]
    # Of equal distances argmin takes the first, so the result is the same everywhere.
    squares_NK = ((points_N3**2).sum(1)[:, None] - 2 * points_N3 @ centers_K3.T) + (centers_K3**2).sum(1)
    return centers_K3.round().astype(np.uint8)[squares_NK.argmin(1)].reshape(pixels.shape)


KINDS: dict[str, Callable[..., Pixels | None]] = {
    "silhouette": silhouette,
    "edges": edges,
    "grayscale": grayscale,
    "lowres": lowres,
    "palette": palette,
}


@dataclass(frozen=True)
class Conditions:
    """Which conditions to derive: names of `KINDS`, or import paths `module:function` of hooks, with their settings."""

    kinds: tuple[str, ...]
    settings: dict[str, dict[str, int]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise RecipeError for a kind that is neither known nor a function that can be imported."""
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
        """The conditions of one image that are no hooks', each encoded as PNG; None if it could not be decoded."""
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
        """What each hook gives for the rows of `batch`, in the order of kinds. Raises DataError for anything else."""
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
        said = str(error).split("\n", 1)[0]
        raise DataError(f"{kind}: found {type(error).__name__}: {said}, expected an Arrow array of binary") from error


def name_of(kind: str) -> str:
    """The name that conditions of `kind` carry: of a hook that of its function."""
    return kind.rpartition(":")[2]


def hook(path: str) -> Hook:
    """The function at `module:function`. Raises RecipeError if it cannot be imported."""
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"conditions: found {path!r}, expected a function that can be imported: {error}") from None
    if not callable(found):
        raise RecipeError(f"conditions: found {path!r}, which is no function, expected one over Arrow batches")
    return found


def decoded(image: bytes | None, max_pixels: int = MAX_PIXELS) -> Pixels | None:
    """The pixels of an encoded image; None if it is null, broken, or too large by its header, read first."""
    if image is None or problem(image, max_pixels) is not None:
        return None
    return cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_UNCHANGED)


def with_conditions(frame: DataFrame, kinds: Sequence[str], image: str = "image") -> DataFrame:
    """`frame` with the column `conditions` array<struct<kind, image>>: one PNG for each of `kinds` that there is.

    An image that cannot be decoded gets null, one that is null too. Raises RecipeError for an unknown kind or column,
    and for hooks.
    """
    conditions = Conditions(tuple(kinds))
    conditions.check()
    if any(":" in kind for kind in kinds):
        raise RecipeError(f"conditions: found {', '.join(kinds)}, expected no hook: those are for recipes alone")
    if image not in frame.columns:
        raise RecipeError(f"conditions: found no column {image!r}, expected one among {', '.join(frame.columns)}")
    schema = StructType([*frame.schema.fields, StructField("conditions", CONDITIONS)])

    def derive(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            made = [conditions.of(decoded(value.as_py())) for value in batch.column(image)]
            yield batch.append_column("conditions", pa.array(made, ARROW_CONDITIONS))

    return frame.mapInArrow(derive, schema)
