"""The Spark job that writes the shards: the one shuffle of a build, and the write stage behind it."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pyspark.sql import DataFrame, SparkSession

from headrace.dataset.query.media import Path
from headrace.dataset.query.placement import Placement
from headrace.dataset.query.samples import Samples
from headrace.dataset.session import conf
from headrace.dataset.source.prepare import Prepared
from headrace.dataset.storage import absolute
from headrace.dataset.survey import BYTES_OF_TEXT, HOT_SAMPLES, Survey
from headrace.dataset.write.shards import REPORT_SCHEMA, Layout, write_stage
from headrace.dataset.write.shuffle import shuffled
from headrace.recipe.dataset import Dataset

ARROW_BATCH_BYTES = 16 << 20
ARROW_BATCH_ROWS = 10_000
# The only byte limit at which Spark does not measure batches.
UNMEASURED = str((1 << 31) - 1)
# Media that no sample uses stay out of the shuffle if the list of used rows is at most this long: it is broadcast.
BROADCAST_ROWS = 1_000_000


def placement(recipe: Dataset, counted: Survey, shares: Sequence[float]) -> Placement:
    """How many shards each partition gets, by its share of the rows, and which rows are spread over several shards."""
    size = counted.media_bytes + counted.samples * BYTES_OF_TEXT
    shards = tuple(max(1, round(size * share / recipe.shards.target_bytes)) for share in shares)
    most = max(shards)

    def parts(samples: int) -> int:
        return min(most, -(-samples // HOT_SAMPLES))

    return Placement(
        shards,
        {row: parts(n) for row, n in counted.hot_rows.items() if parts(n) > 1},
        {order: parts(n) for order, n in counted.hot_orders.items() if parts(n) > 1},
    )


def layout_of(recipe: Dataset, build: str, samples: Samples, images: tuple[Path, ...], where: Placement) -> Layout:
    """What the write stage must know about this build."""
    return Layout(
        root=absolute(recipe.output.path),
        build=build,
        columns=samples.columns,
        causes=samples.causes,
        media=samples.media,
        handles=samples.handles,
        images=images,
        on_bad_row=recipe.on_bad_row,
        max_pixels=None if recipe.images is None else recipe.images.max_pixels,
        placement=where,
    )


def write(
    recipe: Dataset,
    source: Prepared,
    samples: Samples,
    counted: Survey,
    layout: Layout,
    named: DataFrame | None,
) -> list[dict]:
    """Write the shards, and return the report of each shard that has samples.

    `named` has the rows whose media are shipped (None: all).
    """
    frame = shuffled(source.media, samples, counted.leaves, source.rows, layout.placement, named, recipe.shuffle.sample)
    with conf(frame.sparkSession, batches_of_rows(counted) if samples.handles else {}):
        rows = frame.mapInArrow(write_stage(layout), REPORT_SCHEMA).collect()
    return [row.asDict() | {"report": json.loads(row["report"])} for row in rows]


def batches_of_rows(counted: Survey) -> dict[str, str]:
    """Settings that bound Arrow batches by the number of rows that fill them, on average.

    With a byte limit, Spark measures the whole batch again at every row. With many samples for each image that takes
    longer than everything else in the write stage.
    """
    rows = ARROW_BATCH_BYTES * counted.named_rows // max(1, counted.media_bytes)
    return {
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(max(1, min(ARROW_BATCH_ROWS, rows))),
        "spark.sql.execution.arrow.maxBytesPerBatch": UNMEASURED,
    }


@contextmanager
def arrow_settings(spark: SparkSession) -> Iterator[None]:
    """Arrow batches as the stages in Python expect them, inside the block: 32-bit offsets, bounded bytes and rows."""
    settings = {
        "spark.sql.execution.arrow.useLargeVarTypes": "false",
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(ARROW_BATCH_ROWS),
        "spark.sql.execution.arrow.maxBytesPerBatch": str(ARROW_BATCH_BYTES),
    }
    with conf(spark, settings):
        yield
