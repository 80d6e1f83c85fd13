"""The `dataset` section: source, query, shards, output."""

from typing import Any, Literal

from pydantic import Field, model_validator

from headrace.recipe.section import Section


class Source(Section):
    """The source of the rows: a table of the session's catalog, or files in a format that Spark reads."""

    table: str | None = None
    """the name of a table, as in `FROM name`"""
    path: str | None = None
    """a path or URI that Spark can read"""
    format: Literal["parquet", "orc", "json", "avro", "delta", "images", "imagefolder", "webdataset"] = "parquet"
    """the format of the files at `path`; for `images`, `imagefolder` and `webdataset` see docs/datasets.md"""
    media: tuple[str, ...] | None = None
    """the binary columns that hold images, as in `image` or `conditions.image`; null for all"""

    @model_validator(mode="after")
    def _check_one(self) -> "Source":
        if (self.table is None) == (self.path is None):
            raise ValueError("exactly one of `table` and `path`")
        return self


class Shuffle(Section):
    """The global shuffle of whole images, by a seeded hash of the key."""

    key: str | None = None
    """the column that identifies the source's rows: unique, without nulls; null for the file and position of a row"""
    seed: int = 0
    """the seed of the hash"""
    sample: tuple[str, ...] = ()
    """the columns of the query that identify a sample, such as the key, a position, a kind; empty for all"""


Fact = Literal["format", "width", "height", "content_hash", "perceptual_hash"]


class Images(Section):
    """What is computed for each image of the source, once, before the query runs."""

    column: str = "image"
    """the binary column that holds the images, or a field of structs, as in `image.bytes`"""
    facts: tuple[Fact, ...] = ()
    """columns for the query: format (png, jpeg, …), width, height, content_hash (hex), perceptual_hash (64 bits)"""
    conditions: tuple[str, ...] = ()
    """conditions to derive: edges, silhouette, grayscale, lowres, palette, or `module:function` over Arrow batches"""
    into: str = "conditions"
    """the column of array<struct<kind, image>> that derived conditions are appended to"""
    lowres_side: int = Field(default=16, ge=1)
    """the longer side of a `lowres` condition in pixels"""
    palette_colors: int = Field(default=8, ge=1, le=256)
    """the colours of a `palette` condition"""
    drop_undecodable: bool = False
    """drop rows whose image cannot be decoded"""
    min_side: int = Field(default=0, ge=0)
    """drop rows whose image has a side shorter than this, in pixels"""
    drop_near_duplicates: int | None = Field(default=None, ge=0, le=7)
    """of images whose perceptual hashes differ in at most this many bits, keep the largest; null to keep all"""
    max_pixels: int | None = Field(default=None, ge=1)
    """images whose header states more pixels are bad rows, and are not decoded; null for the loader's limit, 2²⁸"""
    identical_once: bool = False
    """put rows with identical images into one shard, which stores the image once"""


class Captions(Section):
    """Which captions of the source's rows are kept, before the query runs."""

    column: str = "captions"
    """the column of captions: an array of strings, or a map to arrays of strings"""
    min_characters: int = Field(default=0, ge=0)
    """drop shorter captions"""
    max_characters: int | None = Field(default=None, ge=1)
    """drop longer captions"""
    matching: str | None = None
    """drop captions in which this Java regular expression finds no match"""
    not_matching: str | None = None
    """drop captions in which this Java regular expression finds a match"""
    distinct: bool = False
    """drop captions that repeat an earlier one of the same array"""

    @model_validator(mode="after")
    def _check_lengths(self) -> "Captions":
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError(f"max_characters of at least min_characters, {self.min_characters}")
        return self


class Split(Section):
    """A column `split` that divides the source's rows into `train` and other parts, by a seeded hash of the key."""

    parts: dict[str, float]
    """each part except `train`, with its share of the rows, as in {validation: 0.05}"""
    seed: int = 0
    """the seed of the hash"""

    @model_validator(mode="after")
    def _check_shares(self) -> "Split":
        if not self.parts or any(not 0 < share < 1 for share in self.parts.values()) or sum(self.parts.values()) >= 1:
            raise ValueError("shares between 0 and 1, together less than 1")
        if "train" in self.parts or "" in self.parts:
            raise ValueError("names other than `train`, which gets the remaining rows")
        return self


class Shards(Section):
    """The size of a shard: one file, one row group."""

    target_bytes: int = Field(default=64 << 20, ge=1 << 10)
    """approximate size of a shard"""


class Output(Section):
    """The Delta table to write."""

    path: str
    """a folder or object-store URI"""
    partition: str | None = None
    """a column of the source, or `split`; name=value after the recipe builds only that partition; null for none"""
    not_images: tuple[str, ...] = ()
    """binary columns of the query that hold other bytes than images, as in `mask` or `extras.embedding`"""


class JavaClass(Section):
    """A Java class whose public static methods become SQL functions. A text alone is its name."""

    name: str
    """the class, as in acme.Alt"""
    prefix: str = ""
    """what is put before the SQL names: needed where one of them is taken, as by a function of Spark"""

    @model_validator(mode="before")
    @classmethod
    def _of_text(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class Dataset(Section):
    """A build of a dataset."""

    source: Source
    """the table of images"""
    udfs: tuple[JavaClass, ...] = ()
    """Java classes whose public static methods become SQL functions: names, or {name, prefix}"""
    jars: tuple[str, ...] = ()
    """jars, as paths or URIs, with classes of `udfs` that are not part of headrace nor on the session's class path"""
    on_udf_error: Literal["fail", "absent"] = "fail"
    """what an exception in a Java function does: end the build, or give null and be counted"""
    images: Images | None = None
    """facts and conditions of images, and which images are dropped"""
    captions: Captions | None = None
    """which captions are kept"""
    split: Split | None = None
    """a split by key into train, validation and the like"""
    query: str
    """HiveQL over the view `source`"""
    shuffle: Shuffle = Shuffle()
    """the order of the images"""
    shards: Shards = Shards()
    """the size of a shard"""
    output: Output
    """where the dataset is written"""
    on_bad_row: Literal["fail", "drop", "quarantine"] = "fail"
    """what happens to a row whose image is missing, truncated or of an unknown format"""
