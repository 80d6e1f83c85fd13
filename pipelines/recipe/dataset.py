"""The `dataset` section: source, HiveQL, shards, output."""

from typing import Literal

from pydantic import Field, model_validator

from pipelines.recipe.section import Section


class Source(Section):
    """Where the rows come from: a table of the session's catalog, or files in a format that Spark reads."""

    table: str | None = None
    """the name of a table, as in `FROM name`"""
    path: str | None = None
    """a path or URI that Spark can read"""
    format: Literal["parquet", "orc", "json", "avro", "delta", "images", "webdataset"] = "parquet"
    """the format of the files at `path`; `images` is a folder of image files with .txt or .json sidecars"""
    media: tuple[str, ...] | None = None
    """the binary columns that hold images, as in `image` or `conditions.image`; null for all"""

    @model_validator(mode="after")
    def _one_of(self) -> "Source":
        if (self.table is None) == (self.path is None):
            raise ValueError("exactly one of `table` and `path`")
        return self


class Shuffle(Section):
    """The global shuffle of whole images by a seeded hash of the key."""

    key: str
    """the column that tells the source's rows apart: not null, unique"""
    seed: int = 0
    """the seed of the hash"""


class Shards(Section):
    """The size of a shard: one file, one row group."""

    target_bytes: int = Field(default=64 << 20, ge=1 << 10)
    """the bytes that a shard holds, about"""


class Output(Section):
    """The Delta table that is written."""

    path: str
    """a folder or object-store URI"""
    partition: str | None = None
    """the source's column whose value, given as name=value, a build replaces; null for the whole table"""


class Dataset(Section):
    """A dataset build."""

    source: Source
    """the table of images"""
    udfs: tuple[str, ...] = ()
    """Java classes whose public static methods become SQL functions"""
    jars: tuple[str, ...] = ()
    """jar files with classes of `udfs` that are neither headrace's own nor on the session's class path"""
    on_udf_error: Literal["fail", "absent"] = "fail"
    """what an exception of a Java function is: the end of the build, or null, and counted"""
    query: str
    """HiveQL over the view `source`"""
    shuffle: Shuffle
    """how whole images are shuffled"""
    shards: Shards = Shards()
    """how large a shard is"""
    output: Output
    """where the dataset goes"""
    on_bad_row: Literal["fail", "drop", "quarantine"] = "fail"
    """what happens to an image that is missing, truncated or of no known format"""
