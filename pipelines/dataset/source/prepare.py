"""The source as a query is to see it: rows told apart, images looked at, captions filtered, dealt to splits."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from pyspark import StorageLevel
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from headrace.dataset.images.stage import DROPPED, HASH, PIXELS, image_schema, with_images, without_near_duplicates
from headrace.dataset.query.media import quoted
from headrace.dataset.query.placement import MOST_PARTITIONS, Rows
from headrace.dataset.query.plan import used_columns
from headrace.dataset.query.run import VIEW
from headrace.dataset.source.captions import COUNTS, filtered
from headrace.dataset.source.open import check_key
from headrace.errors import DataError, RecipeError
from headrace.recipe.dataset import Dataset, Images, Split

# The hidden column that tells rows apart where the recipe names none.
PLACE = "__place"
SPLIT, TRAIN = "split", "train"


@dataclass(frozen=True)
class Prepared:
    """A source that is ready for the query.

    `view` has the rows that the query is to see, `media` the same ones or more, from which bytes are shipped. `hidden`
    columns are not for the query. `captions` counts what was left out of captions. `shares` are the shares of the rows
    that each of the partitions `rows.values` has.
    """

    view: DataFrame
    media: DataFrame
    rows: Rows
    hidden: tuple[str, ...] = ()
    captions: dict[str, Column] = field(default_factory=dict)
    looked_at: DataFrame | None = None
    near_duplicates: DataFrame | None = None
    shares: tuple[float, ...] = (1.0,)

    @property
    def of_files(self) -> bool:
        """Whether the media are those of the source's files."""
        return self.looked_at is None

    def dropped(self) -> tuple[int | None, dict[str, int]]:
        """How many rows the source has (None: as many as `view`), and how many of them were left out by reason."""
        if self.looked_at is None:
            return None, {}
        found = {row[DROPPED]: row["count"] for row in self.looked_at.groupBy(DROPPED).count().collect()}
        total = sum(found.values())
        found.pop(None, None)
        if self.near_duplicates is not None and (near := self.near_duplicates.count()):
            found["image nearly like another"] = near
        return total, found


@contextmanager
def prepared(source: DataFrame, recipe: Dataset, partition: tuple[str, str] | None) -> Iterator[Prepared]:
    """`source` as the recipe wants it, of one partition alone if it is given. What it keeps goes at the end."""
    kept: list[DataFrame] = []
    try:
        yield _prepared(source, recipe, partition, kept)
    finally:
        for frame in kept:
            frame.unpersist()


def _prepared(source: DataFrame, recipe: Dataset, partition: tuple[str, str] | None, kept: list[DataFrame]) -> Prepared:
    source, key = _told_apart(source, recipe.shuffle.key)
    hidden = [PLACE] if key == PLACE else []
    looked_at, gone = None, None
    captions: dict[str, Column] = {}
    if recipe.images is not None and _computes(recipe.images):
        needed = _needed(source, recipe, key)
        looked_at = with_images(source, recipe.images, needed).persist(StorageLevel.DISK_ONLY)
        kept.append(looked_at)
        source = looked_at.where(F.col(DROPPED).isNull())
        hidden += [DROPPED, HASH, PIXELS]
    home = recipe.images.column if recipe.images is not None and recipe.images.identical_once else None
    if home is not None and "content_hash" in source.columns and looked_at is not None:
        home = "content_hash" if "content_hash" in recipe.images.facts else home  # type: ignore[union-attr]
    rows = Rows(key, recipe.shuffle.seed, home)
    if recipe.split is not None:
        source = _split(source, recipe.split, rows)
        if partition is not None and partition[0] == SPLIT:
            source = source.where(F.col(SPLIT) == partition[1])
    rows, shares = (rows, (1.0,)) if partition is not None else _partitioned(source, recipe, rows)
    view = source
    if looked_at is not None and recipe.images is not None:
        view, gone = without_near_duplicates(source, recipe.images, key)
        kept += [gone] if gone is not None else []
    if recipe.captions is not None:
        view, captions = filtered(view, recipe.captions)
        hidden.append(COUNTS)
    return Prepared(view, source, rows, tuple(hidden), captions, looked_at, gone, shares)


def _told_apart(source: DataFrame, key: str | None) -> tuple[DataFrame, str]:
    """`source` with a column that tells its rows apart, and the name of that column."""
    if key is not None:
        check_key(source, key)
        return source, key
    place = F.concat_ws("#", F.col("_metadata.file_path"), F.col("_metadata.row_index"))
    try:
        return source.select("*", place.alias(PLACE)), PLACE
    except AnalysisException:
        raise RecipeError(
            f"dataset.shuffle.key: found nothing, and a source without row numbers, expected one of "
            f"{', '.join(source.columns)}"
        ) from None


def _computes(images: Images) -> bool:
    """Whether there is anything to compute of each image."""
    drops = images.drop_undecodable or images.min_side or images.drop_near_duplicates is not None
    return bool(images.facts or images.conditions or drops)


def _needed(source: DataFrame, recipe: Dataset, key: str) -> set[str]:
    """The columns of `source` that the query uses, and those that the build does."""
    images = recipe.images
    assert images is not None
    schema = image_schema(source.schema, images)
    probe = source.select(
        *(
            F.col(quoted(f.name)) if f.name in source.columns else F.lit(None).cast(f.dataType).alias(f.name)
            for f in schema.fields
        ),
        *([F.lit("").alias(SPLIT)] if recipe.split is not None else []),
    )
    probe.createOrReplaceTempView(VIEW)
    try:
        used = used_columns(source.sparkSession.sql(recipe.query)) & set(source.columns)
    except AnalysisException:  # which the build proper will tell of
        used = set(source.columns)
    finally:
        source.sparkSession.catalog.dropTempView(VIEW)
    own = {key, images.column, *([images.into] if images.conditions else [])}
    if any(":" in kind for kind in images.conditions):  # hooks may look at anything
        return set(source.columns)
    captions = {recipe.captions.column} if recipe.captions is not None else set()
    partition = {recipe.output.partition} if recipe.output.partition is not None else set()
    return (used | own | captions | partition) & set(source.columns)


def _split(source: DataFrame, split: Split, rows: Rows) -> DataFrame:
    if SPLIT in source.columns:
        raise RecipeError(f"dataset.split: found a column {SPLIT!r} in the source, expected none of that name")
    # 53 bits of the hash of a row's home, as a number from 0 to 1.
    place = F.shiftrightunsigned(replace(rows, seed=split.seed + 1).order, 11) / float(1 << 53)
    value, below = F.lit(TRAIN), 0.0
    chosen = None
    for name, share in sorted(split.parts.items()):
        below += share
        condition = place < below
        chosen = F.when(condition, name) if chosen is None else chosen.when(condition, name)
    assert chosen is not None
    return source.withColumn(SPLIT, chosen.otherwise(value))


def _partitioned(source: DataFrame, recipe: Dataset, rows: Rows) -> tuple[Rows, tuple[float, ...]]:
    """`rows` with the partitions that are built, and the share of the rows that each has."""
    name = recipe.output.partition
    if name is None:
        return rows, (1.0,)
    if name == SPLIT and recipe.split is not None:
        parts = {TRAIN: 1 - sum(recipe.split.parts.values()), **recipe.split.parts}
        values: list[tuple[str | None, float]] = sorted(parts.items())
    else:
        counted = source.groupBy(F.col(quoted(name)).cast("string").alias("value")).count()
        found = counted.orderBy("value").limit(MOST_PARTITIONS + 1).collect()
        if len(found) > MOST_PARTITIONS:
            raise DataError(
                f"dataset.output.partition: found more than {MOST_PARTITIONS:,} values in {name!r}, expected fewer"
            )
        total = sum(row["count"] for row in found)
        values = [(row["value"], row["count"] / total) for row in found]
    if not values:
        return rows, (1.0,)
    texts = tuple(value for value, _ in values)
    return replace(rows, partition=name, values=texts), tuple(share for _, share in values)
