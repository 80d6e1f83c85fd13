"""Lineage: OpenLineage's own client reads what a build wrote, and a collector on loopback receives it."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from deltalake import DeltaTable, write_deltalake
from openlineage.client import event_v2
from openlineage.client import facet_v2 as facets

from headrace.dataset.build import build
from headrace.errors import DataError
from tests.dataset.conftest import recipe, row

QUERY = "SELECT id, image, caption FROM source LATERAL VIEW explode(captions) t AS caption"
# The client's class for each facet that a build writes. Its constructor rejects fields that the spec does not have.
FACETS = {
    "sql": facets.sql_job.SQLJobFacet,
    "jobType": facets.job_type_job.JobTypeJobFacet,
    "processing_engine": facets.processing_engine_run.ProcessingEngineRunFacet,
    "errorMessage": facets.error_message_run.ErrorMessageRunFacet,
    "version": facets.dataset_version_dataset.DatasetVersionDatasetFacet,
    "storage": facets.storage_dataset.StorageDatasetFacet,
    "lifecycleStateChange": facets.lifecycle_state_change_dataset.LifecycleStateChangeDatasetFacet,
    "tags": facets.tags_run.TagsRunFacet,
    "schema": facets.schema_dataset.SchemaDatasetFacet,
    "inputStatistics": facets.input_statistics_input_dataset.InputStatisticsInputDatasetFacet,
    "outputStatistics": facets.output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet,
}


def parsed(event: dict) -> event_v2.RunEvent:
    """The event as objects of OpenLineage's client, with each facet in the class that belongs to its name."""

    def read(found: dict) -> dict:
        made = {}
        for name, facet in found.items():
            assert facet["_producer"].startswith("https://")
            known = {key: value for key, value in facet.items() if not key.startswith("_")}
            made[name] = FACETS[name](**known)
            assert made[name]._schemaURL == facet["_schemaURL"]
        return made

    return event_v2.RunEvent(
        eventTime=event["eventTime"],
        eventType=event_v2.RunState(event["eventType"]),
        run=event_v2.Run(event["run"]["runId"], read(event["run"]["facets"])),
        job=event_v2.Job(event["job"]["namespace"], event["job"]["name"], read(event["job"]["facets"])),
        inputs=[
            event_v2.InputDataset(d["namespace"], d["name"], read(d.get("inputFacets", {})), facets=read(d["facets"]))
            for d in event["inputs"]
        ],
        outputs=[
            event_v2.OutputDataset(d["namespace"], d["name"], read(d.get("outputFacets", {})), facets=read(d["facets"]))
            for d in event["outputs"]
        ],
    )


def written(output: Path, version: int) -> event_v2.RunEvent:
    return parsed(json.loads((output / "_headrace" / f"lineage-{version}.json").read_text()))


def test_a_version_has_its_lineage_beside_it(spark, parquet, tmp_path: Path) -> None:
    source, output = parquet([row(i) for i in range(3)]), tmp_path / "out"
    summary = build(spark, recipe(source, output, QUERY))
    event = written(output, 0)
    assert event.eventType == event_v2.RunState.COMPLETE
    entry = DeltaTable(str(output)).history(1)[0]
    assert entry["headrace.run"] == event.run.runId
    assert event.job.name.endswith("out")
    assert event.job.facets["sql"].query == QUERY
    (read,), (made,) = event.inputs, event.outputs
    assert (read.namespace, read.name) == ("file", str(source))
    assert read.inputFacets["inputStatistics"].rowCount == 3
    conditions = read.facets["schema"].fields[3]
    assert (conditions["name"], conditions["type"], conditions["fields"][0]["name"]) == (
        "conditions",
        "array",
        "_element",
    )
    assert [field["name"] for field in conditions["fields"][0]["fields"]] == ["kind", "image"]
    assert (made.namespace, made.name) == ("file", str(output))
    assert [field["name"] for field in made.facets["schema"].fields] == ["sample_id", "id", "image", "caption"]
    assert made.facets["version"].datasetVersion == "0"
    assert made.facets["lifecycleStateChange"].lifecycleStateChange == "CREATE"
    statistics = made.outputFacets["outputStatistics"]
    files = list(output.glob("shard-*.parquet"))
    assert statistics.rowCount == summary.rows == 6
    assert statistics.fileCount == len(files)
    assert statistics.size == sum(file.stat().st_size for file in files)


def test_sources_are_named_as_openlineage_names_them(spark, parquet, tmp_path: Path) -> None:
    source, output = parquet([row(i) for i in range(2)]), tmp_path / "out"
    write_deltalake(str(tmp_path / "delta"), spark.read.parquet(str(source)).toArrow())
    build(spark, recipe(source, output, QUERY, source={"path": str(tmp_path / "delta"), "format": "delta"}))
    (read,) = written(output, 0).inputs
    assert (read.name, read.facets["version"].datasetVersion) == (str(tmp_path / "delta"), "0")
    spark.read.parquet(str(source)).write.saveAsTable("lineage_photos")
    build(spark, recipe(source, output, QUERY, source={"table": "lineage_photos"}))
    (read,) = written(output, 1).inputs
    assert (read.namespace, read.name) == ("hive", "default.lineage_photos")
    assert written(output, 1).outputs[0].facets["lifecycleStateChange"].lifecycleStateChange == "OVERWRITE"


@contextmanager
def collector() -> Iterator[tuple[str, list[dict]]]:
    """A lineage server that keeps what it receives."""
    events: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert urlsplit(self.path).path == "/api/v1/lineage"
            events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(201)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", events
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.slow
def test_a_collector_gets_start_and_end(spark, parquet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, output = parquet([row(i) for i in range(2)]), tmp_path / "out"
    with collector() as (url, events):
        monkeypatch.setenv("OPENLINEAGE_URL", url)
        build(spark, recipe(source, output, QUERY))
        assert [event["eventType"] for event in events] == ["START", "COMPLETE"]
        assert len({event["run"]["runId"] for event in events}) == 1
        assert build(spark, recipe(source, output, QUERY)).unchanged
        assert len(events) == 2, "a build that changes nothing is not a run"
        with pytest.raises(DataError, match="found no rows"):
            build(spark, recipe(source, output, QUERY + " WHERE id = ''"))
        assert [event["eventType"] for event in events[2:]] == ["START", "FAIL"]
        failure = parsed(events[3]).run.facets["errorMessage"]
        assert "found no rows" in failure.message
    assert build(spark, recipe(source, output, QUERY + " WHERE id = 'id001'")).version == 1, (
        "a collector that is away stops nobody"
    )
