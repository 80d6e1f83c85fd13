"""A sample of a dataset: the roles of its columns, and statistics of some of its shards."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.images.formats import BadImage
from headrace.images.headers import dimensions
from headrace.loading.table.plan import Plan

SAMPLE_BYTES = 256 << 20
SAMPLE_ROWS = 500_000
CAPTIONS = ("caption", "text", "name")
LANGUAGES = ("language", "lang")


@dataclass(frozen=True)
class Roles:
    """The roles of a dataset's columns. Images are found by type, other columns by the names that recipes often use."""

    image: str | None
    conditions: tuple[str, ...]
    caption: str | None
    language: str | None
    kind: str | None
    """the column that says what a condition is: edges, silhouette, …"""

    @property
    def columns(self) -> list[str]:
        """The columns that have a role."""
        named = (self.image, *self.conditions, self.caption, self.language, self.kind)
        return [name for name in named if name is not None]


@dataclass
class Sampled:
    """Statistics of some shards. A caption counts once for each image, however many conditions the image has."""

    rows: int = 0
    shards: int = 0
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """(height, width) of each image, in pixels"""
    captions_per_image: list[int] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    """the number of words in each caption, separated by white space"""
    languages: dict[str, int] = field(default_factory=dict)
    tables: list[pa.Table] = field(default_factory=list)
    """the shards themselves, with media dictionary-encoded"""


def roles(schema: pa.Schema) -> Roles:
    """The roles of the columns of `schema`."""
    binary = [f.name for f in schema if pa.types.is_binary(f.type) or pa.types.is_large_binary(f.type)]
    texts = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)]
    return Roles(
        image=binary[0] if binary else None,
        conditions=tuple(binary[1:]),
        caption=next((name for wanted in CAPTIONS for name in texts if name == wanted), None),
        language=next((name for wanted in LANGUAGES for name in texts if name == wanted), None),
        kind=next((name for name in texts if name.endswith("kind")), None),
    )


def sample(found: Plan, who: Roles) -> Sampled:
    """Read shards spread over the dataset: up to 256 MiB and 500,000 rows, but at least one shard."""
    mean = max(found.sizes.mean(), 1.0)
    count = int(min(len(found), max(1, SAMPLE_BYTES // mean), max(1, SAMPLE_ROWS // max(found.rows.mean(), 1.0))))
    sampled = Sampled()
    for shard in np.unique(np.linspace(0, len(found) - 1, count).round().astype(int)):
        _count(_read(found, int(shard), who), who, sampled)
    return sampled


def _read(found: Plan, shard: int, who: Roles) -> pa.Table:
    """A shard with all columns of the dataset. Those that its file lacks have its partition's value, or null."""
    media = [name for name in (who.image, *who.conditions) if name is not None]
    with found.place.filesystem.open_input_file(found.path(shard)) as file:
        there = set(pq.read_schema(file).names)
        table = pq.ParquetFile(file, read_dictionary=[name for name in media if name in there]).read()
    for name, kind in zip(found.schema.names, found.schema.types, strict=True):
        if name in found.partitions.column_names:
            value = found.partitions.column(name)[shard].cast(kind)
            table = table.append_column(name, pa.repeat(value, table.num_rows))
        elif name not in there:
            kind = pa.dictionary(pa.int32(), kind) if name in media else kind
            table = table.append_column(name, pa.nulls(table.num_rows, kind))
    return table.select(found.schema.names)


def _count(table: pa.Table, who: Roles, sampled: Sampled) -> None:
    """Add a shard to the statistics."""
    sampled.rows += table.num_rows
    sampled.shards += 1
    sampled.tables.append(table)
    if who.image is None:
        return
    image = table.column(who.image).combine_chunks()
    sampled.sizes += [size for value in image.dictionary if (size := _size(value.as_py())) is not None]
    if who.caption is None:
        return
    columns = {"image": image.indices, "caption": table.column(who.caption)}
    if who.language is not None:
        columns["language"] = table.column(who.language)
    captions = pa.table(columns).group_by(list(columns)).aggregate([])
    per_image = captions.group_by("image").aggregate([("caption", "count")])
    sampled.captions_per_image += per_image.column("caption_count").to_pylist()
    captions = captions.filter(captions.column("caption").is_valid())
    sampled.words += [len(caption.split()) for caption in captions.column("caption").to_pylist()]
    if who.language is not None:
        for value in captions.column("language").value_counts().to_pylist():
            name = value["values"] or "unknown"
            sampled.languages[name] = sampled.languages.get(name, 0) + value["counts"]


def _size(data: bytes | None) -> tuple[int, int] | None:
    if not data:
        return None
    try:
        return dimensions(data)
    except BadImage:
        return None


def images(table: pa.Table, who: Roles, count: int) -> Iterator[pa.Table]:
    """The rows of up to `count` images spread over a shard, one table for each image."""
    assert who.image is not None
    indices = table.column(who.image).combine_chunks().indices.fill_null(-1).to_numpy()
    unique, first = np.unique(indices, return_index=True)
    first = np.sort(first[unique >= 0])
    chosen = np.linspace(0, len(first) - 1, min(count, len(first))).astype(int)
    for place in first[chosen]:
        yield table.filter(pa.array(indices == indices[place]))
