"""The `dataset` section: source, HiveQL, shards, output."""

from typing import Literal

from pydantic import Field, model_validator

from headrace.recipe.section import Section


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

    key: str | None = None
    """the column that tells the source's rows apart: not null, unique; null for the row's file and place in it"""
    seed: int = 0
    """the seed of the hash"""
    sample: tuple[str, ...] = ()
    """the columns of the query that a sample's id is made from, as the key, a position, a kind; none for all"""


Fact = Literal["format", "width", "height", "content_hash", "perceptual_hash"]


class Images(Section):
    """What is computed of each image of the source, once, before the query runs."""

    column: str = "image"
    """the binary column that holds the images"""
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
    """leave out rows whose image cannot be decoded"""
    min_side: int = Field(default=0, ge=0)
    """leave out rows whose image has a side shorter than this, in pixels"""
    drop_near_duplicates: int | None = Field(default=None, ge=0, le=7)
    """of images whose perceptual hashes differ in at most so many bits, keep the one of most pixels; null for all"""
    max_pixels: int | None = Field(default=None, ge=1)
    """images whose header says more pixels are bad, and never decoded; null for the most that a loader decodes, 2²⁸"""
    identical_once: bool = False
    """bring identical images of several rows into one shard, where they are stored once"""


class Captions(Section):
    """Which captions of the source's rows are kept, before the query runs."""

    column: str = "captions"
    """the column of captions: an array of strings, or a map to arrays of strings"""
    min_characters: int = Field(default=0, ge=0)
    """leave out shorter captions"""
    max_characters: int | None = Field(default=None, ge=1)
    """leave out longer captions"""
    matching: str | None = None
    """leave out captions in which this regular expression (of Java) is nowhere found"""
    not_matching: str | None = None
    """leave out captions in which this regular expression (of Java) is found"""
    distinct: bool = False
    """leave out captions that an earlier one of the same array equals"""

    @model_validator(mode="after")
    def _lengths(self) -> "Captions":
        if self.max_characters is not None and self.max_characters < self.min_characters:
            raise ValueError(f"max_characters of at least min_characters, {self.min_characters}")
        return self


class Split(Section):
    """A column `split` that deals the source's rows to `train` and other parts by a seeded hash of the key."""

    parts: dict[str, float]
    """each part but `train` with its share of the rows, as in {validation: 0.05}"""
    seed: int = 0
    """the seed of the hash"""

    @model_validator(mode="after")
    def _shares(self) -> "Split":
        if not self.parts or any(not 0 < share < 1 for share in self.parts.values()) or sum(self.parts.values()) >= 1:
            raise ValueError("shares between 0 and 1, together less than 1")
        if "train" in self.parts or "" in self.parts:
            raise ValueError("names other than `train`, which gets what is left")
        return self


class Shards(Section):
    """The size of a shard: one file, one row group."""

    target_bytes: int = Field(default=64 << 20, ge=1 << 10)
    """the bytes that a shard holds, about"""


class Output(Section):
    """The Delta table that is written."""

    path: str
    """a folder or object-store URI"""
    partition: str | None = None
    """a column of the source, or `split`: name=value after the recipe builds that partition alone; null for none"""


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
    images: Images | None = None
    """facts and conditions of images, and which images are left out"""
    captions: Captions | None = None
    """which captions are kept"""
    split: Split | None = None
    """a split by key into train, validation and the like"""
    query: str
    """HiveQL over the view `source`"""
    shuffle: Shuffle = Shuffle()
    """how whole images are shuffled"""
    shards: Shards = Shards()
    """how large a shard is"""
    output: Output
    """where the dataset goes"""
    on_bad_row: Literal["fail", "drop", "quarantine"] = "fail"
    """what happens to an image that is missing, truncated or of no known format"""
