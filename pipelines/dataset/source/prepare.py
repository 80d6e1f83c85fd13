"""The source made ready for the query: a key for each row, facts of images, caption filters, splits, partitions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pyarrow as pa
from pyspark import StorageLevel
from pyspark.errors import AnalysisException
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from headrace.dataset.images.stage import (
    HASH,
    PIXELS,
    check_images,
    column_at,
    image_schema,
    with_images,
    without_near_duplicates,
)
from headrace.dataset.partitions import Partition, only_partition, partition_value
from headrace.dataset.query.media import quoted
from headrace.dataset.query.placement import MOST_PARTITIONS, Rows
from headrace.dataset.query.plan import is_stable
from headrace.dataset.query.samples import VIEW
from headrace.dataset.query.used import used_paths
from headrace.dataset.source.account import BAD_FILE, BAD_ROW, DROPPED, is_bad, is_row
from headrace.dataset.source.captions import COUNTS, filtered
from headrace.dataset.spark_errors import SPARK_ERRORS
from headrace.errors import DataError, RecipeError
from headrace.recipe.dataset import Dataset, Images, Split

# The hidden column that identifies rows where the recipe names no key.
PLACE = "__place"
# The hidden column with the bytes of images inside structs, which decide where identical images go.
HOME = "__home"
HIDDEN = frozenset({PLACE, HOME, HASH, PIXELS, COUNTS, DROPPED})
SPLIT, TRAIN = "split", "train"
EXAMPLES = 3


@dataclass(frozen=True)
class Prepared:
    """A source that is ready for the query.

    `view` holds the rows that the query runs over, without the `hidden` columns. `media` holds the same rows or more;
    the bytes that are written come from it. `captions` has a column expression for each reason that counts the captions
    left out of a row. `inspected` has all rows, with the column `DROPPED`; None where neither the recipe nor the source
    leaves out any. `near_duplicates` holds the rows that are dropped as near duplicates. `shares` are the shares (0 to
    1) of the rows in each of the partitions `rows.values`. `takes_bad` says whether bad rows of the source are left out
    or end the build.
    """

    view: DataFrame
    media: DataFrame
    rows: Rows
    hidden: tuple[str, ...] = ()
    captions: dict[str, Column] = field(default_factory=dict)
    inspected: DataFrame | None = None
    near_duplicates: DataFrame | None = None
    shares: tuple[float, ...] = (1.0,)
    takes_bad: bool = False

    @property
    def of_files(self) -> bool:
        """Whether the media are exactly those of the source's files."""
        return self.inspected is None

    def dropped(self) -> tuple[int | None, dict[str, int]]:
        """The rows of the source (None: as many as `view` has), and what was left out of it: the count of each reason.

        Raises DataError for bad files and rows, unless the build takes them.
        """
        if self.inspected is None:
            return None, {}
        found = {row[DROPPED]: row["count"] for row in self.inspected.groupBy(DROPPED).count().collect()}
        bad = {reason: count for reason, count in found.items() if is_bad(reason)}
        if bad and not self.takes_bad:
            raise self._bad(bad)
        total = sum(count for reason, count in found.items() if is_row(reason))
        found.pop(None, None)
        if self.near_duplicates is not None and (near := self.near_duplicates.count()):
            found["image nearly like another"] = near
        return total, found

    def bad_rows(self) -> pa.Table | None:
        """The keys of bad files and rows of the source, and the reasons; None if the source has no such rows."""
        if self.inspected is None:
            return None
        bad = F.col(DROPPED).startswith(BAD_FILE) | F.col(DROPPED).startswith(BAD_ROW)
        return self.inspected.where(bad).select(F.col(quoted(self.rows.key)).cast("string"), DROPPED).toArrow()

    def _bad(self, counts: dict[str, int]) -> DataError:
        assert self.inspected is not None
        shown = []
        for reason, count in sorted(counts.items()):
            of_reason = self.inspected.where(F.col(DROPPED) == reason).select(
                F.col(quoted(self.rows.key)).cast("string").alias("key")
            )
            keys = ", ".join(row["key"] or "?" for row in of_reason.orderBy("key").limit(EXAMPLES).collect())
            shown.append(f"{reason} ({keys}{', …' if count > EXAMPLES else ''}; {count:,})")
        return DataError(f"dataset.source: found {'; '.join(shown)}; expected none, or on_bad_row: drop or quarantine")


@contextmanager
def prepared(source: DataFrame, recipe: Dataset, partition: Partition | None) -> Iterator[Prepared]:
    """Prepare `source` as `recipe` says, or only its partition (name, value). Cached frames are released at the end.

    Raises RecipeError if the key, a split or a caption column does not fit the source, and DataError if a partition
    column has too many values.
    """
    kept: list[DataFrame] = []
    try:
        yield _prepared(source, recipe, partition, kept)
    finally:
        for frame in kept:
            frame.unpersist()


def _prepared(source: DataFrame, recipe: Dataset, partition: Partition | None, kept: list[DataFrame]) -> Prepared:
    if recipe.images is not None:
        check_images(recipe.images)
    source, key = _keyed(source, recipe.shuffle.key)
    hidden = [PLACE] if key == PLACE else []
    inspected, near = None, None
    captions: dict[str, Column] = {}
    if recipe.images is not None and _computes(recipe.images):
        inspected = with_images(source, recipe.images, _needed(source, recipe, key))
        hidden += [HASH, PIXELS]
    elif DROPPED in source.columns:
        inspected = source
    if inspected is not None:
        inspected = inspected.persist(StorageLevel.DISK_ONLY)
        kept.append(inspected)
        source = inspected.where(F.col(DROPPED).isNull())
        hidden.append(DROPPED)
    elif not is_stable(source, VIEW):  # keys and media are read in several jobs, and must be those of the same rows
        kept.append(source.persist(StorageLevel.DISK_ONLY))
    home = None
    if recipe.images is not None and recipe.images.identical_once:
        source, home = _with_home(source, recipe.images)
        hidden += [HOME] if home == HOME else []
    rows = Rows(key, recipe.shuffle.seed, home)
    if recipe.split is not None:
        source = _split(source, recipe.split, rows)
        if partition is not None and partition[0] == SPLIT:
            source = only_partition(source, partition)
    rows, shares = (rows, (1.0,)) if partition is not None else _partitioned(source, recipe, rows)
    view = source
    if inspected is not None and recipe.images is not None:
        view, near = without_near_duplicates(source, recipe.images, key)
        kept += [near] if near is not None else []
    if recipe.captions is not None:
        view, captions = filtered(view, recipe.captions)
        hidden.append(COUNTS)
    takes_bad = recipe.on_bad_row != "fail"
    return Prepared(view, source, rows, tuple(hidden), captions, inspected, near, shares, takes_bad)


def _with_home(source: DataFrame, images: Images) -> tuple[DataFrame, str]:
    """`source`, and the name of its column that is equal for identical images."""
    if "content_hash" in images.facts:
        return source, "content_hash"
    if images.column in source.columns:
        return source, images.column
    return source.withColumn(HOME, column_at(source.schema, images)), HOME


def _keyed(source: DataFrame, key: str | None) -> tuple[DataFrame, str]:
    """`source` with a column that identifies its rows, and the name of that column."""
    if key is not None:
        if key not in source.columns:
            raise RecipeError(
                f"dataset.shuffle.key: found no column {key!r} in the source, "
                f"expected one of {', '.join(source.drop(DROPPED).columns)}"
            )
        return source, key
    place = F.concat_ws("#", F.col("_metadata.file_path"), F.col("_metadata.row_index"))
    try:
        return source.select("*", place.alias(PLACE)), PLACE
    except AnalysisException:
        raise RecipeError(
            f"dataset.shuffle.key: found no key, and a source whose rows have no row numbers, expected one of "
            f"{', '.join(source.columns)}"
        ) from None


def _computes(images: Images) -> bool:
    """Whether the recipe asks for anything that must be computed from each image."""
    drops = images.drop_undecodable or images.min_side or images.drop_near_duplicates is not None
    return bool(images.facts or images.conditions or drops)


def _needed(source: DataFrame, recipe: Dataset, key: str) -> set[str]:
    """The columns of `source` that the query uses, and those that the build itself uses."""
    images = recipe.images
    assert images is not None
    schema = image_schema(source.schema, images)
    if recipe.split is not None:
        schema = schema.add(SPLIT, StringType())
    try:
        used = {path[0] for path in used_paths(source.sparkSession, recipe.query, VIEW, schema)}
    except SPARK_ERRORS:  # run_query will report it
        used = set(source.columns)
    finally:
        source.sparkSession.catalog.dropTempView(VIEW)
    own = {key, images.column.partition(".")[0], images.column, *([images.into] if images.conditions else [])}
    if any(":" in kind for kind in images.conditions):  # hooks may use any column
        return set(source.columns)
    captions = {recipe.captions.column} if recipe.captions is not None else set()
    partition = {recipe.output.partition} if recipe.output.partition is not None else set()
    return (used | own | captions | partition) & set(source.columns)


def _split(source: DataFrame, split: Split, rows: Rows) -> DataFrame:
    if SPLIT in source.columns:
        raise RecipeError(f"dataset.split: found a column {SPLIT!r} in the source, expected none of that name")
    # 53 bits of the hash of the row's home, as a number in [0, 1).
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
    """`rows` with the partitions to build, and the share (0 to 1) of the rows in each."""
    name = recipe.output.partition
    if name is None:
        return rows, (1.0,)
    if name == SPLIT and recipe.split is not None:
        parts = {TRAIN: 1 - sum(recipe.split.parts.values()), **recipe.split.parts}
        values: list[tuple[str | None, float]] = sorted(parts.items())
    else:
        counted = source.groupBy(partition_value(F.col(quoted(name))).alias("value")).count()
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
