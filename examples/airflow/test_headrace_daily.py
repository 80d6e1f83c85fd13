"""Test the DAG in the real Airflow: it loads, and `airflow dags test` runs its task with real builds by spark-submit.

`./run test-airflow` runs this in an environment of Airflow's own. HEADRACE_PYTHON is the Python that has headrace.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PYTHON = os.environ["HEADRACE_PYTHON"]
DAYS = ("2026-11-21", "2026-11-22", "2026-11-23")

SOURCE = """
import sys
import pyarrow as pa, pyarrow.parquet as pq
from pathlib import Path
from tests.dataset.conftest import SCHEMA, row
for number, day in enumerate(sys.argv[2:]):
    folder = Path(sys.argv[1]) / f"ds={day}"
    folder.mkdir(parents=True)
    rows = [row(10 * number + i) for i in range(3)]
    if day == sys.argv[-1]:
        rows[0]["image"] = b"no image"
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / "part-0.parquet")
"""
CONTENTS = """
import json, sys
from collections import Counter
from deltalake import DeltaTable
table = DeltaTable(sys.argv[1])
rows = Counter(table.to_pyarrow_table(columns=["ds"]).column("ds").to_pylist())
print(json.dumps({"version": table.version(), "rows": rows}))
"""
RECIPE = """
spark:
  spark.master: local[2]
  spark.sql.warehouse.dir: {folder}/warehouse
  spark.hadoop.javax.jdo.option.ConnectionURL: "jdbc:derby:;databaseName={folder}/metastore;create=true"
dataset:
  source: {{path: {folder}/source}}
  query: SELECT id, image, caption FROM source LATERAL VIEW explode(captions) c AS caption
  {shuffle}: {{key: id}}
  output: {{path: {folder}/out, partition: ds}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Three days of photos, a broken one on the last; a recipe, and one with a misspelt key; and Airflow's database."""
    made = tmp_path_factory.mktemp("daily")
    subprocess.run([PYTHON, "-c", SOURCE, str(made / "source"), *DAYS], cwd=ROOT, check=True)
    (made / "recipe.yaml").write_text(RECIPE.format(folder=made, shuffle="shuffle"))
    (made / "misspelt.yaml").write_text(RECIPE.format(folder=made, shuffle="shufle"))
    airflow(made, "db", "migrate")
    airflow(made, "dags", "reserialize")
    return made


def airflow(folder: Path, *arguments: str, until: str | None = None, **environment: str) -> str:
    """Run an Airflow command and return its output. A command that would wait is killed once it has printed `until`."""
    variables = {
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(HERE),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "HEADRACE_HOME": str(ROOT),
        "HEADRACE_RECIPE": str(folder / "recipe.yaml"),
        "SPARK_SUBMIT": str(Path(PYTHON).parent / "spark-submit"),
        "PYSPARK_PYTHON": PYTHON,
        **environment,
    }
    command = [str(Path(sys.executable).parent / "airflow"), *arguments]
    printed = []
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, env={**os.environ, **variables}, start_new_session=True, **streams) as process:
        for line in process.stdout:
            printed.append(line)
            if until is not None and until in line:
                os.killpg(process.pid, signal.SIGKILL)  # it ignores every other signal
                break
    return "".join(printed)


def state(folder: Path, day: str, **environment: str) -> tuple[str, str]:
    """The final state of the task of `day`, as Airflow logs it, and all of the output."""
    printed = airflow(folder, "dags", "test", "headrace_daily", day, **environment)
    return re.findall(r"new_state=(\w+)", printed)[-1], printed


def dataset(folder: Path) -> dict:
    done = subprocess.run([PYTHON, "-c", CONTENTS, str(folder / "out")], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_it_loads() -> None:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(str(HERE))
    assert bag.import_errors == {}
    dag = bag.dags["headrace_daily"]
    assert dag.catchup
    (task,) = dag.tasks
    assert (task.task_id, task.retries, task.retry_delay) == ("build", 3, timedelta(minutes=5))


def test_days_are_built_and_building_a_day_again_changes_nothing(folder: Path) -> None:
    for day in DAYS[:2]:
        found, printed = state(folder, day)
        assert found == "success", printed
    assert dataset(folder) == {"version": 1, "rows": {DAYS[0]: 6, DAYS[1]: 6}}
    found, printed = state(folder, DAYS[0])
    assert found == "success"
    assert "unchanged" in printed
    assert dataset(folder)["version"] == 1


@pytest.mark.parametrize(("day", "recipe", "says"), [(DAYS[1], "misspelt", "shufle"), (DAYS[2], "recipe", "id020")])
def test_what_a_person_must_fix_is_not_retried(folder: Path, day: str, recipe: str, says: str) -> None:
    found, printed = state(folder, day, HEADRACE_RECIPE=str(folder / f"{recipe}.yaml"))
    assert found == "failed"
    assert says in printed


def test_anything_else_is_retried(folder: Path) -> None:
    waiting = "No tasks to run"  # printed before the retry delay is over
    command = ("dags", "test", "headrace_daily", DAYS[0])
    assert "[up_for_retry]" in airflow(folder, *command, until=waiting, SPARK_SUBMIT="false")
