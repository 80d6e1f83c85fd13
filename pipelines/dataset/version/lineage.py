"""Lineage: what a build read and wrote, as OpenLineage events (https://openlineage.io/spec), in a file per version.

If OpenLineage's client is configured (by OPENLINEAGE_URL, or a file named by OPENLINEAGE_CONFIG), START and COMPLETE or
FAIL events are sent to that server as well.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from urllib.parse import urlsplit

from openlineage.client import OpenLineageClient, event_v2, set_producer
from openlineage.client import facet_v2 as facets
from openlineage.client.serde import Serde
from openlineage.client.uuid import generate_new_uuid
from pyspark.sql.types import ArrayType, DataType, MapType, StructType

from headrace.dataset.source.account import DROPPED
from headrace.dataset.source.reader import Opened
from headrace.dataset.version.summary import Summary
from headrace.recipe.dataset import Dataset

NAMESPACE = "headrace"
_SERVER = ("OPENLINEAGE_URL", "OPENLINEAGE_CONFIG", "OPENLINEAGE__TRANSPORT")
_LOG = logging.getLogger(__name__)
Field = facets.schema_dataset.SchemaDatasetFacetFields


class Lineage:
    """The events of one build, whose id is `run_id`."""

    def __init__(self, recipe: Dataset, opened: Opened, snapshot: str) -> None:
        self.run_id = str(generate_new_uuid())
        self._recipe, self._opened, self._snapshot = recipe, opened, snapshot
        set_producer(f"https://pypi.org/project/headrace/{version_of('headrace')}")
        self._client = OpenLineageClient() if any(name.startswith(_SERVER) for name in os.environ) else None

    def start(self) -> None:
        """Send the START event."""
        self._send(self._event(event_v2.RunState.START, {}, [self._input(None)], [self._output([])]))

    def fail(self, error: BaseException) -> None:
        """Send the FAIL event, with the error's message."""
        message = facets.error_message_run.ErrorMessageRunFacet(message=str(error), programmingLanguage="PYTHON")
        run = {"errorMessage": message}
        self._send(self._event(event_v2.RunState.FAIL, run, [self._input(None)], [self._output([])]))

    def complete(self, summary: Summary, schema: StructType) -> str:
        """Send the COMPLETE event, with the counts of `summary` and the table's `schema`; returns it as JSON."""
        written = self._output(_fields(schema), summary)
        event = self._event(event_v2.RunState.COMPLETE, {}, [self._input(summary)], [written])
        self._send(event)
        return str(Serde.to_json(event, indent=1))

    def _event(
        self,
        state: event_v2.RunState,
        run: Mapping[str, facets.RunFacet],
        inputs: list[event_v2.InputDataset],
        outputs: list[event_v2.OutputDataset],
    ) -> event_v2.RunEvent:
        engine = facets.processing_engine_run.ProcessingEngineRunFacet(
            version=self._opened.frame.sparkSession.version, name="spark"
        )
        kind = facets.job_type_job.JobTypeJobFacet(processingType="BATCH", integration="HEADRACE", jobType="BUILD")
        sql = facets.sql_job.SQLJobFacet(query=self._recipe.query, dialect="spark")
        name = f"build.{_place(self._recipe.output.path)[1].strip('/').replace('/', '.')}"
        return event_v2.RunEvent(
            eventTime=datetime.now(UTC).isoformat(),
            eventType=state,
            run=event_v2.Run(self.run_id, {"processing_engine": engine, **run}),
            job=event_v2.Job(os.environ.get("OPENLINEAGE_NAMESPACE", NAMESPACE), name, {"jobType": kind, "sql": sql}),
            inputs=inputs,
            outputs=outputs,
        )

    def _input(self, summary: Summary | None) -> event_v2.InputDataset:
        described = self._opened.described
        namespace, name = self._table() if "table" in described else _place(str(described["path"]))
        found: dict[str, facets.DatasetFacet] = {
            "schema": facets.schema_dataset.SchemaDatasetFacet(_fields(self._opened.frame.drop(DROPPED).schema)),
        }
        if version := str(described.get("version", self._snapshot)):
            found["version"] = facets.dataset_version_dataset.DatasetVersionDatasetFacet(version)
        counts = facets.input_statistics_input_dataset.InputStatisticsInputDatasetFacet
        read: dict[str, facets.InputDatasetFacet] = {}
        if summary is not None:
            read["inputStatistics"] = counts(rowCount=summary.rows_in)
        return event_v2.InputDataset(namespace, name, read, facets=found)

    def _output(self, fields: list[Field], summary: Summary | None = None) -> event_v2.OutputDataset:
        namespace, name = _place(self._recipe.output.path)
        found: dict[str, facets.DatasetFacet] = {
            "storage": facets.storage_dataset.StorageDatasetFacet(storageLayer="delta", fileFormat="parquet"),
        }
        if summary is None:
            return event_v2.OutputDataset(namespace, name, facets=found)
        change = facets.lifecycle_state_change_dataset
        state = change.LifecycleStateChange.CREATE if summary.version == 0 else change.LifecycleStateChange.OVERWRITE
        found |= {
            "schema": facets.schema_dataset.SchemaDatasetFacet(fields),
            "version": facets.dataset_version_dataset.DatasetVersionDatasetFacet(str(summary.version)),
            "lifecycleStateChange": change.LifecycleStateChangeDatasetFacet(state),
        }
        statistics = facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=summary.rows, size=summary.stored_bytes, fileCount=summary.shards
        )
        return event_v2.OutputDataset(namespace, name, {"outputStatistics": statistics}, facets=found)

    def _table(self) -> tuple[str, str]:
        """The namespace and name of the source's table in OpenLineage; the namespace is the metastore's address."""
        spark = self._opened.frame.sparkSession
        uri = urlsplit(str(spark.conf.get("spark.hadoop.hive.metastore.uris", "")).partition(",")[0])
        name = str(self._opened.described["table"])
        qualified = name if "." in name else f"{spark.catalog.currentDatabase()}.{name}"
        return (f"hive://{uri.netloc}" if uri.netloc else "hive"), qualified

    def _send(self, event: event_v2.RunEvent) -> None:
        """Send `event`, if there is a server. A failure is only logged: lineage must not fail a build."""
        if self._client is None:
            return
        try:
            self._client.emit(event)
        except Exception as error:
            _LOG.warning("lineage event not sent: %s", str(error).splitlines()[0])


@contextmanager
def lineage_of(recipe: Dataset, opened: Opened, snapshot: str) -> Iterator[Lineage]:
    """The lineage of the build in the block: sends START now, and FAIL if the block raises."""
    lineage = Lineage(recipe, opened, snapshot)
    lineage.start()
    try:
        yield lineage
    except BaseException as error:
        lineage.fail(error)
        raise


def _place(path: str) -> tuple[str, str]:
    """The namespace and name of a path or URI, following OpenLineage: `s3://bucket` and `key`."""
    uri = urlsplit(path)
    if "://" not in path:
        return "file", os.path.abspath(path)
    return f"{uri.scheme}://{uri.netloc}", uri.path.strip("/") or "/"


def _fields(schema: StructType) -> list[Field]:
    return [_field(field.name, field.dataType) for field in schema.fields]


def _field(name: str, kind: DataType) -> Field:
    """A column with its nested fields; elements have the names that OpenLineage prescribes."""
    if isinstance(kind, StructType):
        return Field(name, "struct", fields=_fields(kind))
    if isinstance(kind, ArrayType):
        return Field(name, "array", fields=[_field("_element", kind.elementType)])
    if isinstance(kind, MapType):
        return Field(name, "map", fields=[_field("key", kind.keyType), _field("value", kind.valueType)])
    return Field(name, kind.simpleString())
