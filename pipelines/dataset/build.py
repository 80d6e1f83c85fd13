"""A dataset build from start to commit."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import BinaryType, LongType, StringType, StructField, StructType

import udfs
from pipelines.dataset.absence import WHY, ledger
from pipelines.dataset.commit import File, check_output, commit, open_table
from pipelines.dataset.files import absolute, folder_made, write_text
from pipelines.dataset.lineage import Lineage, lineage_of
from pipelines.dataset.media import Leaf, find_leaves, optimized_plan, quoted, used_leaves
from pipelines.dataset.plan import filters_rows
from pipelines.dataset.query import VIEW, Samples, run_query
from pipelines.dataset.samples import named_rows, shuffled
from pipelines.dataset.shards import QUARANTINE, REPORT_SCHEMA, Layout, write_stage
from pipelines.dataset.snapshot import RUN, SNAPSHOT, identity, same_as
from pipelines.dataset.source import Opened, check_key, check_query, open_source, run_problem
from pipelines.dataset.summary import Summary
from pipelines.dataset.survey import Survey, survey, weigh
from pipelines.dataset.vacuum import discarded_on_failure
from pipelines.dataset.watch import spark_progress
from pipelines.errors import DataError, RecipeError
from pipelines.recipe.dataset import Dataset
from udfs.ledger import Absence, Ledger

ARROW_BATCH_BYTES = 16 << 20
ARROW_BATCH_ROWS = 10_000
EXAMPLE_KEYS = 5
# Media that no sample names are left out of the shuffle where the list of named rows is small enough to broadcast.
BROADCAST_ROWS = 1_000_000


@dataclass(frozen=True)
class _Task:
    """A build once its source is open: what to read, how, and into which partition."""

    recipe: Dataset
    opened: Opened
    leaves: tuple[Leaf, ...]
    partition: tuple[str, str] | None

    @property
    def source(self) -> DataFrame:
        """The source's rows, of the partition alone if there is one."""
        return self.opened.frame


def build(
    spark: SparkSession, recipe: Dataset, partition: tuple[str, str] | None = None, dry_run: bool = False
) -> Summary:
    """Build the dataset that `recipe` describes, or its partition (name, value), and commit it as one new version.

    A build from the same recipe, code and source as the version that stands changes nothing. Raises RecipeError for a
    wrong recipe and DataError for unusable data; then nothing is committed and what was there before is as it was.
    """
    task = _opened(spark, recipe, partition)
    summary = Summary(recipe.output.path, partition, dry_run=dry_run, sql=recipe.query)
    table = open_table(recipe.output.path)
    summary.version = table.version() if table is not None else -1
    with run_query(task.source, recipe.query, task.leaves, recipe.shuffle.key) as samples:
        made_from = identity(recipe, task.opened, samples.frame, partition)
        standing = same_as(table, made_from)
        if standing is not None and not dry_run:
            summary.version, summary.unchanged = standing, True
            return summary
        samples = _without_partition(samples, partition)
        summary.by_value = samples.by_value
        if dry_run:
            _estimate(summary, task, samples)
            return summary
        with lineage_of(recipe, task.opened, made_from[SNAPSHOT]) as lineage:
            _build(summary, task, samples, made_from, lineage)
    return summary


def _estimate(summary: Summary, task: _Task, samples: Samples) -> None:
    with _surveyed(summary, task, samples) as (_, counted, _named):
        summary.plan = optimized_plan(samples.frame)
        summary.media_bytes = counted.media_bytes
        summary.shards = _shards(task.recipe, counted)


def _build(summary: Summary, task: _Task, samples: Samples, made_from: Mapping[str, str], lineage: Lineage) -> None:
    spark, root, build = task.source.sparkSession, task.recipe.output.path, uuid.uuid4().hex[:12]
    with _surveyed(summary, task, samples) as (used, counted, named), folder_made(root), _side_folder(task.recipe):
        with discarded_on_failure(root, build):
            with summary.stage("write"), spark_progress(spark, "write"), _query_errors():
                reports, calls = _write(task, build, samples, used, counted, named)
            with summary.stage("commit"):
                _commit(summary, samples, reports, calls, task, {**made_from, RUN: lineage.run_id})
        told = lineage.complete(summary, output_schema(samples, task.partition))
        write_text(root, f"_headrace/lineage-{summary.version}.json", told)


@contextmanager
def _surveyed(
    summary: Summary, task: _Task, samples: Samples
) -> Iterator[tuple[Sequence[Leaf], Survey, DataFrame | None]]:
    """The media that are used, the counts of the source, and the rows that samples name, kept meanwhile."""
    spark, key = task.source.sparkSession, task.recipe.shuffle.key
    named = _named(task, samples)
    try:
        with summary.stage("survey"), spark_progress(spark, "survey"), _query_errors():
            used = used_leaves(samples.frame, task.leaves) if samples.handles else ()
            counted = survey(task.source, key, used, named)
            if not samples.handles:
                counted = replace(counted, media_bytes=weigh(samples.frame, samples.binary))
        summary.rows_in, summary.rows_named = counted.rows, counted.named_rows
        yield used, counted, named
    finally:
        if named is not None:
            named.unpersist()


def _side_folder(recipe: Dataset) -> AbstractContextManager[None]:
    """The folder of the table of bad rows, where the recipe has one."""
    if recipe.on_bad_row == "quarantine":
        return folder_made(f"{recipe.output.path}/{QUARANTINE}")
    return nullcontext()


def _opened(spark: SparkSession, recipe: Dataset, partition: tuple[str, str] | None) -> _Task:
    check_output(recipe.output.path)
    opened = open_source(spark, recipe.source)
    source = opened.frame
    check_key(source, recipe.shuffle.key)
    check_query(spark, recipe.query)
    name = recipe.output.partition
    if (name is None) != (partition is None) or (partition is not None and partition[0] != name):
        found = "=".join(partition) if partition else "nothing"
        raise RecipeError(f"dataset.output.partition: found {found}, expected {f'{name}=VALUE' if name else 'nothing'}")
    if partition is not None:
        if partition[0] not in source.columns:
            raise RecipeError(
                f"dataset.output.partition: found no column {partition[0]!r} in the source, "
                f"expected one of {', '.join(source.columns)}"
            )
        source = source.where(F.col(quoted(partition[0])).cast("string") == partition[1])
    for jar in recipe.jars:
        udfs.add_jar(spark, jar)
    for class_name in recipe.udfs:
        udfs.register(spark, class_name, on_error=recipe.on_udf_error)
    return _Task(recipe, replace(opened, frame=source), find_leaves(source.schema, recipe.source.media), partition)


def _without_partition(samples: Samples, partition: tuple[str, str] | None) -> Samples:
    """The partition's column is the same in all rows: the log holds it, the files do not."""
    if partition is None or partition[0] not in samples.columns:
        return samples
    kept = [i for i, name in enumerate(samples.columns) if name != partition[0]]
    columns = tuple(samples.columns[i] for i in kept)
    causes = tuple(samples.causes[i] for i in kept)
    frame = samples.frame.select(
        *(F.col(quoted(name)) for name in columns), *(cause for cause in causes if cause is not None)
    )
    return replace(samples, frame=frame, columns=columns, causes=causes)


def _named(task: _Task, samples: Samples) -> DataFrame | None:
    """The rows that samples name, kept for two uses; None where that may be all of them."""
    if not samples.handles or not filters_rows(samples.frame, VIEW):
        return None
    return named_rows(samples).persist()


def _shards(recipe: Dataset, counted: Survey) -> int:
    return max(1, -(-counted.media_bytes // recipe.shards.target_bytes))


def _write(
    task: _Task, build: str, samples: Samples, used: Sequence[Leaf], counted: Survey, named: DataFrame | None
) -> tuple[list[dict], list[Absence]]:
    """Write the shards; returns the report of each partition that has samples, and what the Java functions gave."""
    recipe, spark = task.recipe, task.source.sparkSession
    layout = Layout(
        root=absolute(recipe.output.path),
        build=build,
        columns=samples.columns,
        causes=samples.causes,
        media=samples.media,
        handles=samples.handles,
        checked=_checked(samples, task.leaves),
        on_bad_row=recipe.on_bad_row,
    )
    calls = Ledger(spark) if recipe.udfs else None
    if calls is not None:
        key = recipe.shuffle.key if recipe.shuffle.key in samples.columns else None
        samples = replace(samples, frame=calls.watch(samples.frame, key))
    if counted.named_rows > BROADCAST_ROWS or counted.named_rows == counted.rows:
        named = None
    shards = _shards(recipe, counted)
    frame = shuffled(task.source, samples, used, recipe.shuffle.key, recipe.shuffle.seed, shards, named)
    with _arrow_batches(spark):
        rows = frame.mapInArrow(write_stage(layout), REPORT_SCHEMA).collect()
    return [row.asDict() | {"report": json.loads(row["report"])} for row in rows], calls.absences() if calls else []


def _checked(samples: Samples, leaves: Sequence[Leaf]) -> tuple[str, ...]:
    """The columns of images: handles, and of bytes, which may be anything, those named as in the source."""
    named = {leaf.name for leaf in leaves}
    return samples.handles + tuple(name for name in samples.binary if name in named)


@contextmanager
def _query_errors() -> Iterator[None]:
    """Errors of the query's own, which Spark finds as it runs, as DataError."""
    try:
        yield
    except PySparkException as error:
        if error.getCondition() in {None, "PYTHON_EXCEPTION"}:  # the write stage's, not the query's
            raise
        raise run_problem(error) from None


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


def _commit(
    summary: Summary,
    samples: Samples,
    reports: list[dict],
    calls: list[Absence],
    task: _Task,
    made_from: Mapping[str, str],
) -> None:
    root, recipe = task.recipe.output.path, task.recipe
    files = [File(r["path"], r["rows"], r["bytes"], r["stats"]) for r in reports if r["path"]]
    details = [report["report"] for report in reports]
    bad, keys = _bad(details)
    summary.samples = sum(report["samples"] for report in details)
    if bad and recipe.on_bad_row == "fail":
        shown = "; ".join(f"{reason} ({_keys(keys[reason])}; {count:,} rows)" for reason, count in bad.items())
        raise DataError(f"dataset: found bad images: {shown}; expected none, or on_bad_row: drop or quarantine")
    schema = output_schema(samples, task.partition)
    summary.quarantined = _commit_quarantine(root, schema, details, task, made_from)
    if not files:
        raise DataError(f"dataset.query: found no rows to write of {summary.rows_in:,} in the source, expected some")
    summary.rows = sum(file.rows for file in files)
    summary.dropped = bad
    summary.shards = len(files)
    summary.images = sum(report.get("images", 0) for report in details)
    summary.stored_bytes = sum(file.size for file in files)
    summary.media_bytes = sum(report.get("media_bytes", 0) for report in details)
    summary.absence = {
        "columns": ledger(summary.rows, ("sample_id", *samples.columns), details),
        "functions": [asdict(call) for call in calls if not call.column.startswith(WHY)],
    }
    summary.version = commit(root, schema, files, {**made_from, **summary.metadata()}, task.partition)
    text = json.dumps(summary.absence, indent=1, ensure_ascii=False)
    write_text(root, f"_headrace/absence-{summary.version}.json", text)


def _commit_quarantine(
    root: str, schema: pa.Schema, details: list[dict], task: _Task, made_from: Mapping[str, str]
) -> bool:
    """Commit the side table of bad rows, before the dataset itself; returns whether there are any."""
    found = [report["quarantine"] for report in details if "quarantine" in report]
    if not found:
        return False
    files = [File(f["path"], f["rows"], f["bytes"], json.dumps({"numRecords": f["rows"]})) for f in found]
    schema = schema.append(pa.field("key", pa.string())).append(pa.field("reason", pa.string()))
    commit(f"{root}/{QUARANTINE}", schema, files, made_from, task.partition)
    return True


def output_schema(samples: Samples, partition: tuple[str, str] | None) -> pa.Schema:
    """The table's schema: `sample_id`, the query's columns with media as binary, and the partition's column."""
    fields = [StructField(f.name, BinaryType()) if f.name in samples.media else f for f in samples.schema.fields]
    last = [StructField(partition[0], StringType())] if partition else []
    return to_arrow_schema(StructType([StructField("sample_id", LongType()), *fields, *last]))


def _bad(details: list[dict]) -> tuple[dict[str, int], dict[str, list[str | None]]]:
    """Bad rows by reason, and their keys."""
    bad: dict[str, int] = {}
    keys: dict[str, list[str | None]] = {}
    for report in details:
        for reason, found in report["bad"].items():
            bad[reason] = bad.get(reason, 0) + found["samples"]
            keys[reason] = [*keys.get(reason, []), *found["keys"]]
    return bad, keys


def _keys(keys: Sequence[str | None]) -> str:
    named = sorted(key for key in keys if key is not None)
    more = ", …" if len(named) > EXAMPLE_KEYS else ""
    return f"key {', '.join(named[:EXAMPLE_KEYS])}{more}" if named else "key unknown"
