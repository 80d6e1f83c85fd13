"""A dataset build, from opening the source to the commit."""

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace

from pyspark import StorageLevel
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import ArrayType, BinaryType, LongType, MapType, StringType, StructField, StructType

from headrace import udfs
from headrace.dataset.partitions import Partition, canonical, check_name, only_partition
from headrace.dataset.query.absence import WHY, ledger
from headrace.dataset.query.media import Leaf, Path, find_leaves, optimized_plan, used_leaves
from headrace.dataset.query.plan import enough_partitions, filters_rows, is_stable
from headrace.dataset.query.samples import VIEW, Samples, check_query, run_query
from headrace.dataset.session import conf
from headrace.dataset.source.account import DROPPED
from headrace.dataset.source.prepare import SPLIT, Prepared, prepared
from headrace.dataset.source.reader import Opened, open_source
from headrace.dataset.spark_errors import query_errors
from headrace.dataset.spark_progress import spark_progress
from headrace.dataset.storage import folder_made, write_text
from headrace.dataset.survey import Survey, count_rows, survey, weigh
from headrace.dataset.version.commit import File, check_files, check_output, commit, merged_schema, open_table
from headrace.dataset.version.lineage import Lineage, lineage_of
from headrace.dataset.version.schema import stored
from headrace.dataset.version.snapshot import RUN, SNAPSHOT, identity, same_as
from headrace.dataset.version.summary import Summary
from headrace.dataset.version.vacuum import discarded_on_failure
from headrace.dataset.write.bad_rows import NOT_IMAGES, image_paths
from headrace.dataset.write.job import BROADCAST_ROWS, arrow_settings, layout_of, placement, write
from headrace.dataset.write.shards import QUARANTINE, Layout, quarantine_columns, quarantine_source
from headrace.errors import DataError, RecipeError
from headrace.recipe.dataset import Dataset
from headrace.udfs.ledger import Absence, Ledger

EXAMPLE_KEYS = 5
_NESTED = ArrayType | MapType | StructType


@dataclass(frozen=True)
class _Task:
    """A build whose source is open and prepared: what it reads, how, and which partition it writes."""

    recipe: Dataset
    opened: Opened
    prepared: Prepared
    leaves: tuple[Leaf, ...]
    partition: Partition | None

    @property
    def by(self) -> str | None:
        """The column that the table is partitioned by."""
        return self.recipe.output.partition


def build(spark: SparkSession, recipe: Dataset, partition: Partition | None = None, dry_run: bool = False) -> Summary:
    """Build the dataset that `recipe` describes, or only `partition` (name, value), and commit it as one new version.

    A build from the same recipe, code and source as the current version changes nothing. `dry_run` estimates sizes and
    writes nothing. Raises RecipeError if the recipe is wrong and DataError if the data are unusable; in both cases
    nothing is committed and the previous version stays in place.
    """
    with arrow_settings(spark), _opened(spark, recipe, partition) as task, _query(task) as samples:
        summary = Summary(recipe.output.path, task.partition, dry_run=dry_run, sql=recipe.query)
        _check_columns(samples, task)
        table = open_table(recipe.output.path)
        summary.version = table.version() if table is not None else -1
        made_from = identity(recipe, task.opened, samples.frame, task.partition)
        standing = same_as(table, made_from)
        if standing is not None and not dry_run:
            summary.version, summary.unchanged = standing, True
            return summary
        samples = _without_partition(samples, task)
        _check_table(samples, task)
        summary.by_value = samples.by_value
        if dry_run:
            _estimate(summary, task, samples)
            return summary
        with lineage_of(recipe, task.opened, made_from[SNAPSHOT]) as lineage:
            _build(summary, task, samples, made_from, lineage)
    return summary


def _images(samples: Samples, task: _Task) -> tuple[Path, ...]:
    """The places of the query's result that hold images."""
    source = task.prepared.view.drop(*task.prepared.hidden).schema
    return image_paths(samples, source, task.recipe.source.media, task.recipe.output.not_images)


def _query(task: _Task) -> AbstractContextManager[Samples]:
    prepared = task.prepared
    return run_query(prepared.view, task.recipe.query, task.leaves, prepared.rows, prepared.hidden)


def _estimate(summary: Summary, task: _Task, samples: Samples) -> None:
    with _surveyed(summary, task, samples) as (counted, _named):
        summary.plan = optimized_plan(samples.frame)
        summary.media_bytes = counted.media_bytes
        summary.shards = placement(task.recipe, counted, task.prepared.shares).total


def _build(summary: Summary, task: _Task, samples: Samples, made_from: Mapping[str, str], lineage: Lineage) -> None:
    spark, root, build = samples.frame.sparkSession, task.recipe.output.path, uuid.uuid4().hex[:12]
    calls = Ledger(spark) if task.recipe.udfs else None
    if calls is not None:
        samples = replace(samples, frame=calls.observe(samples.frame, samples.key))
    with _surveyed(summary, task, samples) as (counted, named), folder_made(root), _side_folder(task.recipe):
        where = placement(task.recipe, counted, task.prepared.shares)
        layout = layout_of(task.recipe, build, samples, _images(samples, task), where)
        with discarded_on_failure(root, build):
            with summary.stage("write"), spark_progress(spark, "write"), query_errors():
                reports = write(task.recipe, task.prepared, samples, counted, layout, named)
            with summary.stage("commit"):
                apart = _quarantine_source(task, layout)
                absences = calls.absences() if calls is not None else []
                _commit(summary, samples, reports, absences, task, {**made_from, RUN: lineage.run_id}, apart)
        event = lineage.complete(summary, output_schema(samples, task.by))
        write_text(root, f"_headrace/lineage-{summary.version}.json", event)


@contextmanager
def _surveyed(summary: Summary, task: _Task, samples: Samples) -> Iterator[tuple[Survey, DataFrame | None]]:
    """The counts of the source, and the rows whose media samples use (None: all of them), cached inside the block."""
    spark, source = samples.frame.sparkSession, task.prepared
    if source.inspected is not None:
        with summary.stage("images"), spark_progress(spark, "images"), query_errors():
            found, summary.dropped_rows = source.dropped()
            summary.rows_in = found or 0
    by_row = count_rows(source.view, source.rows, samples, source.captions)
    partitions = {"spark.sql.shuffle.partitions": str(enough_partitions(source.view))}
    some = bool(samples.handles) and (source.near_duplicates is not None or filters_rows(samples.frame, VIEW))
    used = used_leaves(samples.frame, task.leaves) if samples.handles else ()
    with ExitStack() as kept:
        if samples.handles and not is_stable(samples.frame, VIEW):  # it runs once
            kept.callback(samples.frame.persist(StorageLevel.DISK_ONLY).unpersist)
        if some:
            kept.callback(by_row.persist().unpersist)
        with summary.stage("survey"), spark_progress(spark, "survey"), query_errors(), conf(spark, partitions):
            counted = survey(
                source.media,
                source.rows,
                used,
                by_row,
                tuple(source.captions),
                source.of_files,
            )
            if not samples.handles:
                count, size = weigh(samples.frame, samples.binary)
                counted = replace(counted, samples=count, media_bytes=size, named_rows=counted.rows)
        summary.rows_in = summary.rows_in or counted.rows
        summary.rows_named = counted.named_rows
        summary.dropped_captions = {reason: count for reason, count in counted.extra.items() if count}
        few = some and counted.named_rows <= BROADCAST_ROWS and counted.named_rows < counted.rows
        few = few or (some and source.near_duplicates is not None and counted.named_rows <= BROADCAST_ROWS)
        yield counted, by_row.where("named").select("row") if few else None


def _side_folder(recipe: Dataset) -> AbstractContextManager[None]:
    """Make the folder of the quarantine table, if the recipe writes one."""
    if recipe.on_bad_row == "quarantine":
        return folder_made(f"{recipe.output.path}/{QUARANTINE}")
    return nullcontext()


@contextmanager
def _opened(spark: SparkSession, recipe: Dataset, partition: Partition | None) -> Iterator[_Task]:
    check_name(recipe.output, partition)
    check_output(recipe.output.path)
    opened = open_source(spark, recipe.source)
    source = opened.frame
    check_query(spark, recipe.query)
    name = recipe.output.partition
    is_split = name == SPLIT and recipe.split is not None
    if name is not None and name not in source.columns and not is_split:
        raise RecipeError(
            f"dataset.output.partition: found no column {name!r} in the source, "
            f"expected one of {', '.join(source.drop(DROPPED).columns)}"
        )
    if name is not None and not is_split and isinstance(source.schema[name].dataType, BinaryType | _NESTED):
        found = source.schema[name].dataType.simpleString()
        raise RecipeError(
            f"dataset.output.partition: found {name!r} of type {found}, expected text, a number or a date"
        )
    if partition is not None:
        partition = canonical(source, partition, StringType() if is_split else source.schema[partition[0]].dataType)
        source = source if is_split else only_partition(source, partition)
    for jar in recipe.jars:
        try:
            udfs.add_jar(spark, jar)
        except RecipeError as error:
            raise RecipeError(f"dataset.jars: {error}") from None
    for java in recipe.udfs:
        try:
            udfs.register(spark, java.name, prefix=java.prefix, on_error=recipe.on_udf_error)
        except RecipeError as error:
            raise RecipeError(f"dataset.udfs: {error}") from None
    with prepared(source, recipe, partition) as ready:
        leaves = find_leaves(ready.view.drop(*ready.hidden).schema, recipe.source.media)
        yield _Task(recipe, replace(opened, frame=source), ready, leaves, partition)


def _check_columns(samples: Samples, task: _Task) -> None:
    """Raise RecipeError for a column that Delta cannot store, and for a key that names a column that does not exist."""
    _images(samples, task)
    output_schema(samples, task.by)
    partition = samples.named(task.by) if task.by is not None else None
    columns = [name for name in samples.columns if name != partition]
    if not columns:
        raise RecipeError(f"dataset.query: found no column besides the partition {task.by!r}, expected at least one")
    for name in task.recipe.shuffle.sample:
        if name not in columns:
            raise RecipeError(f"dataset.shuffle.sample: found {name!r}, expected among {', '.join(columns)}")


def _check_table(samples: Samples, task: _Task) -> None:
    """Raise RecipeError if the commit would: the tables that exist may have other columns or another partition."""
    root = task.recipe.output.path
    both = {root: output_schema(samples, task.by), f"{root}/{QUARANTINE}": _quarantine_schema(samples, task)}
    for folder, columns in both.items():
        merged_schema(folder, open_table(folder), columns, task.partition, task.by)


def _without_partition(samples: Samples, task: _Task) -> Samples:
    """The samples without the partition's column: it is constant in a shard, so only the log records it."""
    if task.by is None:
        return samples
    if not samples.handles and task.partition is None and samples.named(task.by) is None:
        raise RecipeError(
            f"dataset.output.partition: found no column {task.by!r} in the query, which names no media by reference, "
            f"expected it in the SELECT, or {task.by}=VALUE after the recipe"
        )
    return samples.partitioned(task.by)


def _commit(
    summary: Summary,
    samples: Samples,
    reports: list[dict],
    calls: list[Absence],
    task: _Task,
    made_from: Mapping[str, str],
    apart: Sequence[Mapping],
) -> None:
    root, recipe = task.recipe.output.path, task.recipe
    details = [report["report"] for report in reports]
    files = [
        File(r["path"], r["rows"], r["bytes"], r["stats"], _value(task, r["report"])) for r in reports if r["path"]
    ]
    bad, keys = _bad(details)
    summary.samples = sum(report["samples"] for report in details)
    if bad and recipe.on_bad_row == "fail":
        shown = "; ".join(f"{reason} ({_keys(keys[reason])}; {count:,} rows)" for reason, count in bad.items())
        raise DataError(
            f"dataset: found bad images: {shown}; expected none, on_bad_row: drop or quarantine, "
            f"or the columns that are no images in {NOT_IMAGES}"
        )
    schema = output_schema(samples, task.by)
    bad_files, aside = _quarantine_files(details, task, apart), f"{root}/{QUARANTINE}"
    check_files(root, files)
    check_files(aside, bad_files)
    summary.quarantined = bool(bad_files)
    if bad_files or open_table(aside) is not None:  # before the dataset itself
        commit(aside, _quarantine_schema(samples, task), bad_files, made_from, task.partition, task.by)
    if not files:
        gone = {**summary.dropped_rows, **summary.dropped_captions, **bad}
        why = "; ".join(f"{reason} ({count:,})" for reason, count in gone.items())
        raise DataError(
            f"dataset.query: found no rows to write of {summary.rows_in:,} in the source, expected at least one"
            + (f"; left out: {why}" if why else "")
        )
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
    summary.version = commit(root, schema, files, {**made_from, **summary.metadata()}, task.partition, task.by)
    text = json.dumps(summary.absence, indent=1, ensure_ascii=False)
    write_text(root, f"_headrace/absence-{summary.version}.json", text)


def _quarantine_source(task: _Task, layout: Layout) -> list[dict]:
    """Write the bad rows of the source to the quarantine, if the recipe has one; returns what its log records."""
    bad = task.prepared.bad_rows() if task.recipe.on_bad_row == "quarantine" else None
    return [quarantine_source(bad, layout)] if bad is not None and bad.num_rows else []


def _quarantine_schema(samples: Samples, task: _Task) -> StructType:
    own = (StructField(name, StringType()) for name in quarantine_columns(samples.columns))
    return StructType([*output_schema(samples, task.by).fields, *own])


def _quarantine_files(details: list[dict], task: _Task, apart: Sequence[Mapping]) -> list[File]:
    """The files of bad rows; those `apart` have rows that no shard has."""
    found = [(report["quarantine"], _value(task, report)) for report in details if "quarantine" in report]
    found += [(file, task.partition[1] if task.partition else None) for file in apart]
    return [File(f["path"], f["rows"], f["bytes"], json.dumps({"numRecords": f["rows"]}), v) for f, v in found]


def _value(task: _Task, report: Mapping) -> str | None:
    """The partition value of the shard that `report` describes."""
    if task.partition is not None:
        return task.partition[1]
    values = task.prepared.rows.values
    return values[report["partition"]] if values else None


def output_schema(samples: Samples, partition: str | None) -> StructType:
    """The table's schema: `sample_id`, the query's columns (media as binary), and the partition column.

    Raises RecipeError for a column that Delta cannot store.
    """
    fields = [StructField(f.name, BinaryType()) if f.name in samples.media else f for f in samples.schema.fields]
    fields = [field for field in fields if field.name != partition]
    last = [StructField(partition, StringType())] if partition else []
    return stored(StructType([StructField("sample_id", LongType()), *fields, *last]))


def _bad(details: list[dict]) -> tuple[dict[str, int], dict[str, list[str | None]]]:
    """The number of bad rows for each reason, and the keys of some."""
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
