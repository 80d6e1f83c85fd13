"""Sources that are image files: folders of images with sidecar files, and WebDataset tars of them.

Both have the layout that img2dataset writes: `000012.jpg` with `000012.txt` (a caption) and `000012.json` (metadata).
The driver lists the files, and Spark's workers read them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import StructType

from headrace.dataset.source.account import DROPPED, NOT_STRINGS, Unusable
from headrace.dataset.source.listing import File, list_files, printable, reader
from headrace.dataset.source.samples import LeftOut, Sample, grouped, name_in_folder, name_in_tar, other
from headrace.dataset.source.sidecars import captions_of, decode
from headrace.dataset.source.tars import is_tar, members
from headrace.errors import RecipeError

Row = dict[str, Any]
Read = Callable[[str], bytes]

_ARROW = [
    ("key", pa.string()),
    ("path", pa.string()),
    ("image", pa.binary()),
    ("captions", pa.list_(pa.string())),
    ("metadata", pa.string()),
]
COLUMNS = f"key string, path string, image binary, captions array<string>, metadata string, {DROPPED} string"
COLUMNS_OF_TARS = f"{COLUMNS}, parts map<string, binary>"
_OF_FOLDERS = pa.schema([*_ARROW, (DROPPED, pa.string())])
_OF_TARS = pa.schema([*_OF_FOLDERS, ("parts", pa.map_(pa.string(), pa.binary()))])
# A task reads files of about this size, the default of spark.sql.files.maxPartitionBytes …
TASK_BYTES = 128 << 20
# … and at most this many.
TASK_FILES = 10_000


def open_images(spark: SparkSession, path: str) -> tuple[DataFrame, str]:
    """A row for each image in the folder `path`, and the fingerprint of its files. The columns are:

    `key`, the image's path in the folder without its suffix (with it, if two images would have the same key); `path`
    with the suffix; `image`; `captions`, from the .txt file, or `captions` or `caption` of the .json file, or null;
    `metadata`, the text of the .json file; and `DROPPED`. Raises RecipeError if there are no images.
    """
    folder = list_files(path)
    samples, left_out = grouped(folder.files, name_in_folder)
    if not samples:
        raise RecipeError(f"dataset.source.path: found no .png, .jpg or other image files in {path!r}")
    sizes = {file.path: file.size for file in folder.files}
    weights = [sum(sizes[name] for name in sample.files) for sample in samples] + [0] * len(left_out)
    root = folder.root

    def read(items: Sequence[Sample | LeftOut]) -> Iterator[pa.RecordBatch]:
        file = reader(root)
        for item in items:
            for row in read_sample(item, file) if isinstance(item, Sample) else [row_left_out(item)]:
                yield pa.RecordBatch.from_pylist([row], _OF_FOLDERS)

    return in_tasks(spark, [*samples, *left_out], weights, read, COLUMNS), folder.fingerprint


def open_webdataset(spark: SparkSession, path: str) -> tuple[DataFrame, str]:
    """A row for each sample in the tars of the folder `path`, and the fingerprint of its files. One task reads one tar.

    The columns are those of `open_images`, and `parts`, the sample's other images by name. `path` begins with that of
    the tar. Raises RecipeError if there are no tars.
    """
    folder = list_files(path)
    tars = [file for file in folder.files if file.problem is None and is_tar(file.path)]
    if not tars:
        raise RecipeError(f"dataset.source.path: found no .tar files in {path!r}")
    left_out = [
        LeftOut(file.path, file.problem or other(name_in_folder(file.path).suffix.lower()))
        for file in folder.files
        if file not in tars
    ]
    root = folder.root

    def read(items: Sequence[File | LeftOut]) -> Iterator[pa.RecordBatch]:
        for item in items:
            for row in rows_of_tar(root, item.path) if isinstance(item, File) else [row_left_out(item)]:
                yield pa.RecordBatch.from_pylist([row], _OF_TARS)

    weights = [TASK_BYTES] * len(tars) + [0] * len(left_out)
    return in_tasks(spark, [*tars, *left_out], weights, read, COLUMNS_OF_TARS), folder.fingerprint


def in_tasks(
    spark: SparkSession,
    items: Sequence[Any],
    weights: Sequence[int],
    read: Callable[[Sequence[Any]], Iterator[pa.RecordBatch]],
    columns: str | StructType,
) -> DataFrame:
    """The frame of what `read` makes of all items. Each task gets neighbours whose `weights` add up to TASK_BYTES."""
    starts = [0]
    weight = 0
    for place, own in enumerate(weights):
        if place > starts[-1] and (weight + own > TASK_BYTES or place - starts[-1] >= TASK_FILES):
            starts.append(place)
            weight = 0
        weight += own
    bounds = [*starts, len(items)]
    shared = spark.sparkContext.broadcast(tuple(items))

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for task in batch.column("id").to_pylist():
                yield from read(shared.value[bounds[task] : bounds[task + 1]])

    return spark.range(0, len(starts), 1, len(starts)).mapInArrow(run, columns)


def read_sample(sample: Sample, read: Read) -> Iterator[Row]:
    """The row of `sample`, with a reason in `DROPPED` if one of its files cannot be used."""
    row: Row = {"key": printable(sample.key), "path": printable(sample.path)}
    try:
        text, whole = _described(sample, read)
        image = None if sample.image is None else read(sample.image)
        parts = [(printable(name), read(path)) for name, path in sample.parts.items()]
    except Unusable as error:
        yield row | {DROPPED: str(error)}
        return
    yield row | text | {"image": image, "parts": parts}
    if not whole:
        yield row_left_out(LeftOut(str(sample.metadata), NOT_STRINGS))


def row_left_out(item: LeftOut) -> Row:
    """The row that stands for a file that is left out."""
    return {"key": printable(item.path), "path": printable(item.path), DROPPED: item.reason}


def _described(sample: Sample, read: Read) -> tuple[Row, bool]:
    """The captions and the metadata of `sample`, and whether all captions of the metadata are strings."""
    texts = [decode(read(path)).strip() for path in sample.texts]
    metadata = None if sample.metadata is None else decode(read(sample.metadata))
    captions, whole = (None, True) if metadata is None else captions_of(metadata)
    return {"captions": texts or captions, "metadata": metadata}, whole or bool(texts)


def rows_of_tar(root: str, path: str) -> Iterator[Row]:
    """The rows of the tar `path` in the folder `root`, and one for each of its members that is part of no row."""
    with members(root, path) as tar:
        samples, left_out = grouped(tar.files, name_in_tar)
        left_out += tar.left_out
        for sample in samples:
            if tar.problem is not None and tar.cut in sample.files:
                left_out += [LeftOut(name, tar.problem) for name in sample.files]
                continue
            for row in read_sample(sample, tar.read):
                yield row | {"path": printable(f"{path}/") + row["path"]}
        for item in left_out:
            yield row_left_out(LeftOut(f"{path}/{item.path}", item.reason))
        if tar.problem is not None:
            yield row_left_out(LeftOut(path, tar.problem))
