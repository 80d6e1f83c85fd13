"""Makes the source of the Fashion-MNIST recipes: 70,000 images of clothes with labels, captions and derived conditions.

Fashion-MNIST (Xiao, Rasul & Vollgraf 2017, MIT license) is Debian's package dataset-fashion-mnist.
"""

import argparse
import gzip
import hashlib
import shutil
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.errors import DataError, RecipeError
from headrace.images.edges import canny
from headrace.jobs.arguments import Parser
from headrace.jobs.run import run_job
from headrace.progress import progress
from headrace.recipe import load_recipe

PACKAGE = "dataset-fashion-mnist"
FOLDER = "/usr/share/datasets/fashion-mnist"
SPLITS = {"train": "train", "test": "t10k"}
KINDS = {"images": 3, "labels": 1}  # the dimensions of an IDX file of unsigned bytes
SIDE = 28
LOW_RESOLUTION = 7
BACKGROUND = 16  # pixels of at most this value are background
MADE_FROM = b"headrace.made_from"
ROWS_AT_ONCE = 5_000

CAPTIONS = (
    ("a t-shirt", "a top", "a photo of a t-shirt", "a shirt with short sleeves and no buttons"),
    ("trousers", "a pair of trousers", "a photo of trousers", "long pants with two legs"),
    ("a pullover", "a sweater", "a photo of a pullover", "a warm top with long sleeves"),
    ("a dress", "a gown", "a photo of a dress", "a dress that reaches the knees"),
    ("a coat", "a jacket", "a photo of a coat", "a coat to wear outdoors"),
    ("a sandal", "an open shoe", "a photo of a sandal", "a sandal with straps"),
    ("a shirt", "a blouse", "a photo of a shirt", "a shirt with a collar"),
    ("a sneaker", "a sports shoe", "a photo of a sneaker", "a flat shoe for running"),
    ("a bag", "a handbag", "a photo of a bag", "a bag with a handle"),
    ("an ankle boot", "a boot", "a photo of an ankle boot", "a shoe that covers the ankle"),
)
"""the captions of each label; the first is its name"""

SCHEMA = pa.schema(
    [
        ("image_id", pa.string()),
        ("split", pa.string()),
        ("label", pa.int32()),
        ("image", pa.binary()),
        ("captions", pa.list_(pa.string())),
        ("conditions", pa.list_(pa.struct([("kind", pa.string()), ("image", pa.binary())]))),
    ]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Make the files that the recipe reads, unless they exist; returns the exit status."""
    return run_job(_make, _parser(), argv)


def _parser() -> Parser:
    parser = Parser(
        "python -m headrace.jobs.fashion",
        "Make the source of the Fashion-MNIST recipes: train.parquet and test.parquet in dataset.source.path.\n"
        "Columns: image_id, split (train, test), label (0 to 9), image (a gray PNG of 28×28 pixels), captions\n"
        "(several for each label) and conditions (kind, image): edges, silhouette and lowres, as large as the image.\n"
        "Files that were made from the same data before are left alone.",
        [
            "python -m headrace.jobs.fashion recipes/fashion.yaml",
            "python -m headrace.jobs.fashion recipes/fashion-edges.yaml --side=16 dataset.source.path=data/fashion-16",
        ],
    )
    parser.recipe(
        "a key of the recipe and its value in YAML, as in dataset.source.path=data/fashion; or a FOLDER, which has no "
        f"equals sign: where the four .gz files of the package {PACKAGE} are ({FOLDER})"
    )
    parser.add_argument(
        "--side",
        metavar="PIXELS",
        type=_side,
        default=SIDE,
        help=f"scale the images to this side first, 8 to {SIDE}, so that edges are those of the small image",
    )
    return parser


def _side(text: str) -> int:
    if not text.isdecimal() or not 8 <= int(text) <= SIDE:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected pixels, from 8 to {SIDE}")
    return int(text)


def _make(arguments: argparse.Namespace) -> None:
    folders = [text for text in arguments.overrides if "=" not in text]
    if len(folders) > 1:
        raise RecipeError(f"argument: found {' '.join(folders)}, expected one FOLDER at most")
    overrides = [text for text in arguments.overrides if "=" in text]
    recipe = load_recipe(arguments.recipe, overrides, needs=["dataset"])
    assert recipe.dataset is not None
    source = recipe.dataset.source
    if source.path is None or source.format != "parquet":
        raise RecipeError("dataset.source.path: found nothing, expected the folder of Parquet files to make")
    make_source(Path(source.path), Path(folders[0] if folders else FOLDER), arguments.side)


def make_source(target: Path, folder: Path, side: int = SIDE) -> None:
    """Write `train.parquet` and `test.parquet` into `target` from the four files in `folder`.

    Images are scaled to `side` pixels. Files that were made from the same four files in the same way are left alone.
    Raises DataError if one of the four is missing or broken, RecipeError if `target` holds other files.
    """
    origin = _origin(folder, side)
    made = {_made_from(file) for file in target.glob("*")} if target.exists() else set()
    if made == {origin} and len(list(target.glob("*"))) == len(SPLITS):
        print(f"source: {target} exists already")
        return
    if None in made:
        raise RecipeError(f"dataset.source.path: found other files in {target}, expected a free folder")
    hidden = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(hidden, ignore_errors=True)
    hidden.mkdir(parents=True)
    schema = SCHEMA.with_metadata({MADE_FROM: origin})
    rows = 0
    with progress("source", total=None, unit="images") as bar:
        for split in SPLITS:
            with pq.ParquetWriter(hidden / f"{split}.parquet", schema) as file:
                for table in tables(folder, split, side):
                    file.write_table(table.replace_schema_metadata(schema.metadata))
                    bar.advance(table.num_rows)
                    rows += table.num_rows
    shutil.rmtree(target, ignore_errors=True)
    hidden.rename(target)
    print(f"source: {target} holds {rows:,} images")


def tables(folder: Path, split: str, side: int = SIDE) -> Iterator[pa.Table]:
    """The rows of a split, 5,000 at a time, with images scaled to `side` pixels.

    Raises DataError if the labels do not match the images.
    """
    images = _file(folder, split, "images")
    images_NHW = read_idx(images, KINDS["images"])
    labels_N = read_idx(_file(folder, split, "labels"), KINDS["labels"])
    if len(images_NHW) != len(labels_N) or labels_N.max(initial=0) >= len(CAPTIONS):
        raise DataError(
            f"{images}: found {len(images_NHW)} images and {len(labels_N)} labels up to "
            f"{labels_N.max(initial=0)}, expected a label from 0 to {len(CAPTIONS) - 1} for each image"
        )
    for start in range(0, len(images_NHW), ROWS_AT_ONCE):
        some = range(start, min(start + ROWS_AT_ONCE, len(images_NHW)))
        rows = [_row(split, number, _scaled(images_NHW[number], side), int(labels_N[number])) for number in some]
        yield pa.Table.from_pylist(rows, SCHEMA)


def _row(split: str, number: int, pixels_HW: np.ndarray, label: int) -> dict[str, object]:
    return {
        "image_id": f"{split}-{number:05}",
        "split": split,
        "label": label,
        "image": _png(pixels_HW),
        "captions": CAPTIONS[label],
        "conditions": [{"kind": kind, "image": _png(made)} for kind, made in conditions(pixels_HW).items()],
    }


def _scaled(pixels_HW: np.ndarray, side: int) -> np.ndarray:
    return pixels_HW if side == SIDE else cv2.resize(pixels_HW, (side, side), interpolation=cv2.INTER_AREA)


def conditions(pixels_HW: np.ndarray) -> dict[str, np.ndarray]:
    """Conditions for a drawing, each uint8 [H, W]: Canny edges, the silhouette of the clothes, and the image at 7×7."""
    low = cv2.resize(pixels_HW, (LOW_RESOLUTION, LOW_RESOLUTION), interpolation=cv2.INTER_AREA)
    return {
        "edges": canny(pixels_HW),
        "silhouette": np.where(pixels_HW > BACKGROUND, 255, 0).astype(np.uint8),
        "lowres": cv2.resize(low, pixels_HW.shape[::-1], interpolation=cv2.INTER_NEAREST),
    }


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """A gzipped IDX file of unsigned bytes, as an array. Raises DataError, one line, if it is missing or broken."""
    try:
        data = gzip.decompress(_bytes(path))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: found no readable gzip file: {error}") from None
    header = 4 + 4 * dimensions
    if len(data) < header or data[:4] != bytes([0, 0, 8, dimensions]):
        raise DataError(f"{path}: found no IDX file of {dimensions} dimensions of unsigned bytes, expected one")
    shape = tuple(int(size) for size in np.frombuffer(data, ">u4", dimensions, 4))
    if len(data) - header != int(np.prod(shape)):
        raise DataError(f"{path}: found {len(data) - header} values, expected {' × '.join(map(str, shape))}")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _file(folder: Path, split: str, kind: str) -> Path:
    return folder / f"{SPLITS[split]}-{kind}-idx{KINDS[kind]}-ubyte.gz"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: found {(error.strerror or 'nothing').lower()}, expected the files of Debian's package {PACKAGE} "
            f"(apt-get install {PACKAGE}) or the FOLDER that holds them"
        ) from None


def _origin(folder: Path, side: int) -> bytes:
    """A hash of the four files and of how the source is made from them."""
    digest = hashlib.sha256(repr((CAPTIONS, SCHEMA, LOW_RESOLUTION, BACKGROUND, side)).encode())
    for split in SPLITS:
        for kind in KINDS:
            digest.update(_bytes(_file(folder, split, kind)))
    return digest.hexdigest().encode()


def _made_from(file: Path) -> bytes | None:
    """The mark of a file that this job made, else None."""
    try:
        return (pq.read_schema(file).metadata or {}).get(MADE_FROM)
    except (OSError, pa.ArrowException):
        return None


def _png(pixels_HW: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels_HW)[1].tobytes()


if __name__ == "__main__":
    sys.exit(main())
