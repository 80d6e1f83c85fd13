"""A dataset build from start to commit."""

import hashlib
import json
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import BinaryType, LongType, StructField, StructType

import udfs
from pipelines.dataset.absence import WHY, ledger
from pipelines.dataset.commit import File, check_output, commit, forget, make_folder, write_text
from pipelines.dataset.media import Leaf, find_leaves, used_leaves
from pipelines.dataset.query import Samples, run_query
from pipelines.dataset.samples import shuffled
from pipelines.dataset.shards import REPORT_SCHEMA, Layout, write_stage
from pipelines.dataset.source import Survey, check_key, open_source, sql_problem, survey
from pipelines.dataset.watch import spark_progress
from pipelines.errors import DataError
from pipelines.recipe.dataset import Dataset
from udfs.ledger import Absence, Ledger

ARROW_BATCH_BYTES = 16 << 20
ARROW_BATCH_ROWS = 10_000
EXAMPLE_KEYS = 5


@dataclass
class Summary:
    """What a build did."""

    path: str
    version: int = -1
    rows_in: int = 0
    samples: int = 0
    rows: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    shards: int = 0
    images: int = 0
    stored_bytes: int = 0
    media_bytes: int = 0
    by_value: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    absence: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 2)


def build(spark: SparkSession, recipe: Dataset) -> Summary:
    """Build the dataset that `recipe` describes and commit it as one new version.

    Raises RecipeError for a wrong recipe and DataError for unusable data; then nothing is committed and what was
    there before is as it was.
    """
    summary = Summary(recipe.output.path)
    check_output(recipe.output.path)
    key = recipe.shuffle.key
    source = open_source(spark, recipe.source)
    check_key(source, key)
    for name in recipe.udfs:
        udfs.register(spark, name)
    leaves = find_leaves(source.schema)
    with run_query(source, recipe.query, leaves, key) as samples:
        summary.by_value = samples.by_value
        with summary.stage("survey"), spark_progress(spark, "survey"):
            counted = survey(source, key, leaves)
        summary.rows_in = counted.rows
        with summary.stage("write"), spark_progress(spark, "write"):
            reports, calls = _write(source, samples, leaves, recipe, counted)
    with summary.stage("commit"):
        _commit(summary, samples, reports, recipe, calls)
    return summary


def _write(
    source: DataFrame, samples: Samples, leaves: tuple[Leaf, ...], recipe: Dataset, counted: Survey
) -> tuple[list[dict], list[Absence]]:
    """Write the shards; returns the report of each partition that has samples, and what the Java functions gave."""
    spark = source.sparkSession
    shards = max(1, -(-counted.media_bytes // recipe.shards.target_bytes))
    layout = Layout(
        root=recipe.output.path,
        build=uuid.uuid4().hex[:12],
        columns=samples.columns,
        causes=samples.causes,
        media=samples.media,
        by_value=samples.by_value is not None,
        drop_bad=recipe.on_bad_row == "drop",
    )
    make_folder(recipe.output.path)
    used = used_leaves(samples.frame, leaves)
    calls = Ledger(spark) if recipe.udfs else None
    if calls is not None:
        named = recipe.shuffle.key if recipe.shuffle.key in samples.columns else None
        samples = replace(samples, frame=calls.watch(samples.frame, named))
    frame = shuffled(source, samples, used, recipe.shuffle.key, recipe.shuffle.seed, shards)
    with _arrow_batches(spark):
        try:
            rows = frame.mapInArrow(write_stage(layout), REPORT_SCHEMA).collect()
        except PySparkException as error:
            if error.getCondition() is None:  # not an error of the query's own
                raise
            raise DataError(f"dataset.query: {sql_problem(error)}") from None
    return [row.asDict() | {"report": json.loads(row["report"])} for row in rows], calls.absences() if calls else []


@contextmanager
def _arrow_batches(spark: SparkSession) -> Iterator[None]:
    """Bound the Arrow batches that go to Python by bytes as well as by rows."""
    settings = {
        "spark.sql.execution.arrow.maxRecordsPerBatch": str(ARROW_BATCH_ROWS),
        "spark.sql.execution.arrow.maxBytesPerBatch": str(ARROW_BATCH_BYTES),
    }
    before = {name: spark.conf.get(name) for name in settings}
    for name, value in settings.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            spark.conf.set(name, str(old))


def _commit(summary: Summary, samples: Samples, reports: list[dict], recipe: Dataset, calls: list[Absence]) -> None:
    root = recipe.output.path
    files = [File(r["path"], r["rows"], r["bytes"], r["stats"]) for r in reports if r["path"]]
    details = [report["report"] for report in reports]
    bad, keys = _bad(details)
    summary.samples = sum(report["samples"] for report in details)
    if bad and recipe.on_bad_row == "fail":
        forget(root, [file.path for file in files])
        shown = "; ".join(f"{reason} ({_keys(keys[reason])}; {count:,} rows)" for reason, count in bad.items())
        raise DataError(f"dataset: found bad images: {shown}; expected none, or on_bad_row: drop")
    if not files:
        raise DataError(f"dataset.query: found no rows to write of {summary.rows_in:,} in the source, expected some")
    summary.rows = sum(file.rows for file in files)
    summary.dropped = bad
    summary.shards = len(files)
    summary.images = sum(report.get("images", 0) for report in details)
    summary.stored_bytes = sum(file.size for file in files)
    summary.media_bytes = sum(report.get("media_bytes", 0) for report in details)
    schema = output_schema(samples)
    summary.absence = {
        "columns": ledger(summary.rows, schema.names, details),
        "functions": [asdict(call) for call in calls if not call.column.startswith(WHY)],
    }
    summary.version = commit(root, schema, files, _metadata(summary, recipe))
    write_text(
        root, f"_headrace/absence-{summary.version}.json", json.dumps(summary.absence, indent=1, ensure_ascii=False)
    )


def output_schema(samples: Samples) -> pa.Schema:
    """The table's schema: `sample_id`, then the query's columns, media as binary."""
    fields = [StructField(f.name, BinaryType()) if f.name in samples.media else f for f in samples.schema.fields]
    return to_arrow_schema(StructType([StructField("sample_id", LongType()), *fields]))


def recipe_hash(recipe: Dataset) -> str:
    """A hash of all that the recipe says of the dataset."""
    return hashlib.sha256(recipe.model_dump_json().encode()).hexdigest()[:16]


def _metadata(summary: Summary, recipe: Dataset) -> Mapping[str, str]:
    return {
        "headrace.recipe": recipe_hash(recipe),
        "headrace.rows_in": str(summary.rows_in),
        "headrace.rows": str(summary.rows),
        "headrace.images": str(summary.images),
        "headrace.dropped": json.dumps(summary.dropped),
        "headrace.media_bytes": str(summary.media_bytes),
    }


def _bad(details: list[dict]) -> tuple[dict[str, int], dict[str, list[str]]]:
    bad: dict[str, int] = {}
    keys: dict[str, list[str]] = {}
    for report in details:
        for reason, found in report["bad"].items():
            bad[reason] = bad.get(reason, 0) + found["samples"]
            keys[reason] = [*keys.get(reason, []), *found["keys"]]
    return bad, keys


def _keys(keys: Sequence[str | None]) -> str:
    named = sorted(key for key in keys if key is not None)
    more = ", …" if len(named) > EXAMPLE_KEYS else ""
    return f"key {', '.join(named[:EXAMPLE_KEYS])}{more}" if named else "key unknown"
