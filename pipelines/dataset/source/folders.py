"""Sources that are image files: folders of images with sidecar files, and WebDataset tars of them.

Both have the layout that img2dataset writes: `000012.jpg` with `000012.txt` (a caption) and `000012.json` (metadata).
"""

import json
import tarfile
from collections.abc import Iterator

import pyarrow as pa
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from headrace.dataset.storage import filesystem
from headrace.errors import RecipeError

IMAGES = ("png", "jpg", "jpeg", "webp", "gif", "bmp")
SIDECARS = ("txt", "json")
COLUMNS = "key string, image binary, captions array<string>, metadata string"
_ARROW = pa.schema(
    [("key", pa.string()), ("image", pa.binary()), ("captions", pa.list_(pa.string())), ("metadata", pa.string())]
)


def open_images(spark: SparkSession, path: str) -> DataFrame:
    """A row for each image under `path`, with the columns key, image, captions and metadata.

    `key` is the image's path under `path`, without suffix. `captions` is the text of the .txt file, or `captions` or
    `caption` of the .json file, or null. `metadata` is the text of the .json file. Spark lists the files, and its
    workers read them. Raises RecipeError if there are no such files.
    """
    return _grouped(_listed(spark, path, (*IMAGES, *SIDECARS)), path).mapInArrow(_read_files, COLUMNS)


def open_webdataset(spark: SparkSession, path: str) -> DataFrame:
    """A row for each image in the .tar files under `path`, with the columns of `open_images`. One task reads one tar.

    Raises RecipeError if there are no .tar files.
    """
    tars = _listed(spark, path, ("tar",)).select("path")
    return tars.repartition(tars.count(), "path").mapInArrow(_read_tars, COLUMNS)


def _listed(spark: SparkSession, path: str, suffixes: tuple[str, ...]) -> DataFrame:
    """The path and suffix of files under `path` with one of `suffixes`; their contents are not read."""
    files = spark.read.format("binaryFile").option("recursiveFileLookup", "true").load(path).select("path")
    suffix = F.lower(F.regexp_extract("path", r"\.([^./]+)$", 1))
    found = files.select("path", suffix.alias("suffix")).where(F.col("suffix").isin(*suffixes))
    if found.isEmpty():
        raise RecipeError(f"dataset.source.path: found no .{', .'.join(suffixes)} files in {path!r}")
    return found


def _grouped(files: DataFrame, path: str) -> DataFrame:
    """The paths of each image and its sidecars, one row for each image."""
    stem = F.regexp_replace("path", r"\.[^./]+$", "")
    grouped = files.groupBy(stem.alias("stem")).agg(
        F.max(F.when(F.col("suffix").isin(*IMAGES), F.col("path"))).alias("image"),
        *(F.max(F.when(F.col("suffix") == kind, F.col("path"))).alias(kind) for kind in SIDECARS),
    )
    root = path.rstrip("/").rpartition("/")[2]
    key = F.regexp_extract("stem", rf"^.*?/\Q{root}\E/(.*)$", 1)
    return grouped.where("image IS NOT NULL").select(key.alias("key"), "image", *SIDECARS)


def _read_files(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for paths in batch.to_pylist():
            image, text, described = (_bytes(paths[kind]) for kind in ("image", *SIDECARS))
            yield _row(paths["key"], image, text, described)


def _opened(uri: str) -> pa.NativeFile:
    """Open the file at `uri`. Spark writes local paths as file:/…, with spaces unescaped."""
    local = "/" + uri.removeprefix("file:").lstrip("/") if uri.startswith("file:") else uri
    files, path = filesystem(local, "dataset.source.path")
    return files.open_input_stream(path)


def _bytes(uri: str | None) -> bytes | None:
    if uri is None:
        return None
    with _opened(uri) as stream:
        return stream.read()


def _read_tars(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        for uri in batch.column("path").to_pylist():
            with _opened(uri) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
                yield from _samples(tar)


def _samples(tar: tarfile.TarFile) -> Iterator[pa.RecordBatch]:
    """The images of a tar. WebDataset keeps the members of a sample together; their names agree up to the first dot."""
    key = ""
    parts: dict[str, bytes] = {}
    for member in tar:
        if not member.isfile():
            continue
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        stem = f"{folder}/{stem}" if folder else stem
        if stem != key:
            yield from _sample(key, parts)
            key, parts = stem, {}
        if suffix.lower() in (*IMAGES, *SIDECARS):
            content = tar.extractfile(member)
            assert content is not None
            parts[suffix.lower()] = content.read()
    yield from _sample(key, parts)


def _sample(key: str, parts: dict[str, bytes]) -> Iterator[pa.RecordBatch]:
    image = next((parts[suffix] for suffix in IMAGES if suffix in parts), None)
    if image is not None:
        yield _row(key, image, parts.get("txt"), parts.get("json"))


def _row(key: str, image: bytes | None, text: bytes | None, described: bytes | None) -> pa.RecordBatch:
    metadata = None if described is None else described.decode(errors="replace")
    captions = _captions(text, metadata)
    row = {"key": key, "image": image, "captions": captions, "metadata": metadata}
    return pa.RecordBatch.from_pylist([row], _ARROW)


def _captions(text: bytes | None, metadata: str | None) -> list[str] | None:
    if text is not None:
        return [text.decode(errors="replace").strip()]
    try:
        described = json.loads(metadata or "null")
    except ValueError:
        return None
    if not isinstance(described, dict):
        return None
    found = described.get("captions", described.get("caption"))
    if isinstance(found, str):
        return [found]
    return [str(caption) for caption in found] if isinstance(found, list) else None
