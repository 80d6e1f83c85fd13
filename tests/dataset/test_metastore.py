"""A source in a Hive metastore server, given by its URI."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import DeltaTable

from tests.dataset.conftest import SCHEMA, row
from tests.dataset.metastore import metastore

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "operations.md"
TABLE = """
import sys
from headrace.dataset.session import spark_session
spark = spark_session("table", {"spark.master": "local[1]", "spark.hadoop.hive.metastore.uris": sys.argv[1],
                                "spark.sql.warehouse.dir": sys.argv[2]})
spark.sql("CREATE DATABASE gallery")
spark.read.parquet(sys.argv[3]).createOrReplaceTempView("photos")
spark.conf.set("hive.exec.dynamic.partition.mode", "nonstrict")
spark.sql("CREATE TABLE gallery.photos PARTITIONED BY (ds) STORED AS ORC AS "
          "SELECT *, IF(id < 'id002', '2026-11-21', '2026-11-22') AS ds FROM photos")
"""


def run(*command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYSPARK_GATEWAY")}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_a_table_of_a_metastore_by_its_uri(tmp_path: Path) -> None:
    source, output = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    pq.write_table(pa.Table.from_pylist([row(i) for i in range(5)], SCHEMA), source / "part-0.parquet")
    with metastore(tmp_path / "metastore") as uri:
        run("-c", TABLE, uri, str(tmp_path / "warehouse"), str(source))
        told = next(text for text in re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL) if "thrift" in text)
        made = yaml.safe_load(told.replace("thrift://metastore:9083", uri).replace("datasets/gallery", str(output)))
        made["spark"]["spark.master"] = "local[2]"
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(made))
        build = ("-m", "headrace.jobs.build", str(tmp_path / "recipe.yaml"), "ds=2026-11-22")
        run(*build)
        assert "unchanged" in run(*build)
    rows = DeltaTable(str(output)).to_pyarrow_table().to_pylist()
    captions = {(f"id00{i}", caption, "2026-11-22") for i in (2, 3, 4) for caption in row(i)["captions"]}
    assert {(r["id"], r["caption"], r["ds"]) for r in rows} == captions
    assert json.loads(DeltaTable(str(output)).history(1)[0]["headrace.source"]) == {"table": "gallery.photos"}
    event = json.loads((output / "_headrace" / "lineage-0.json").read_text())
    assert event["inputs"][0]["namespace"] == uri.replace("thrift", "hive")
