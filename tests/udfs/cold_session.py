"""A separate session that has the jars from its start and lets tasks fail. Prints what the tests check as JSON.

python cold_session.py HEADRACE_JAR ACME_JAR FOLDER
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession

from headrace import udfs
from headrace.udfs.ledger import Ledger, failures


def fail_first(folder: str):
    """A function for mapInArrow that fails once in each partition, after all its rows."""

    def pass_through(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        yield from batches
        mark = Path(folder) / f"failed-{TaskContext.get().partitionId()}"
        if not mark.exists():
            mark.touch()
            raise RuntimeError("killed after its work")

    return pass_through


def main(headrace_jar: str, acme_jar: str, folder: str) -> None:
    os.environ["PYSPARK_PYTHON"] = sys.executable
    settings = {
        "spark.master": "local[2,3]",
        "spark.ui.enabled": "false",
        "spark.jars": f"{headrace_jar},{acme_jar}",
        "spark.sql.warehouse.dir": f"{folder}/warehouse",
        "spark.sql.catalog.fn": "headrace.bridge.Catalog",
        "spark.sql.catalog.fn.classes": "headrace.Captions,acme.Calls",
        "spark.sql.catalog.lenient": "headrace.bridge.Catalog",
        "spark.sql.catalog.lenient.classes": "acme.Calls",
        "spark.sql.catalog.lenient.on_error": "absent",
    }
    spark = SparkSession.builder.config(map=settings).getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    found = {}
    spark.range(0, 100, 1, 4).createOrReplaceTempView("ids")
    found["best"] = spark.sql("SELECT fn.captions.best('', array('a', 'b c', NULL), 2)").first()[0]
    query = "SELECT id, fn.calls.pick(IF(id % 2 = 0, NULL, 'alt'), IF(id % 4 = 0, NULL, '')) AS caption FROM ids"
    found["picked"] = spark.sql(query).where("caption IS NOT NULL").count()
    found["plan"] = spark.sql(query)._jdf.queryExecution().optimizedPlan().toString()
    found["codegen"] = "*(1) Project" in spark.sql(query)._jdf.queryExecution().executedPlan().toString()
    found["overloads"] = list(
        spark.sql("SELECT fn.calls.kind(1), fn.calls.kind('a'), fn.calls.join('-', 'a', 'b')").first()
    )
    found["listed"] = sorted(row[0] for row in spark.sql("SHOW USER FUNCTIONS IN fn.calls").collect())
    lenient = "SELECT lenient.calls.failing(IF(id % 2 = 0, 'checked', 'x')) AS x FROM ids"
    found["absent"] = sum(row.x is None for row in spark.sql(lenient).collect())
    found["failures"] = failures(spark)
    for name, text in {"unknown": "SELECT fn.calls.nothing(1)", "mismatch": "SELECT fn.calls.pick(1)"}.items():
        try:
            spark.sql(text).collect()
        except Exception as error:
            found[name] = str(error)
    ledger = Ledger(spark)
    watched = ledger.observe(spark.sql(query), key="id")
    found["rows"] = len(watched.mapInArrow(fail_first(folder), watched.schema).collect())
    found["failed"] = len(list(Path(folder).glob("failed-*")))
    found["absences"] = [vars(absence) for absence in ledger.absences()]
    fns = udfs.register(spark, "acme.Calls", prefix="c_")
    found["registered"] = spark.sql("SELECT 1 AS x").select(fns.plain("x")).first()[0]
    print(json.dumps(found))
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
