"""An Airflow DAG that builds a day's partition of a dataset every night with `spark-submit`, missed days included.

A build is an idempotent transaction: you can run a day again at any time, and if its input has not changed, neither
does the dataset. Retrying cannot fix exit statuses 2 (the recipe is wrong) and 3 (the data is unusable), so they fail
the task at once. Anything else, such as a lost executor, is retried.

Set these variables in the environment of the workers:
  HEADRACE_RECIPE   a recipe with `output: {path: …, partition: ds}`
  HEADRACE_HOME     the folder that has jobs/build.py: a clone, or the folder `headrace` of an installed wheel
  SPARK_SUBMIT      the command with its options: `spark-submit --master yarn --deploy-mode client`
"""

import os
import shlex
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import dag, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException

WRONG_RECIPE, UNUSABLE_DATA = 2, 3


@dag(
    schedule="@daily",
    start_date=datetime(2026, 11, 20, tzinfo=UTC),
    catchup=True,  # also build the days since start_date that have no build yet
    max_active_runs=2,  # builds of different days can commit at the same time
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5), "retry_exponential_backoff": True},
    tags=["headrace"],
)
def headrace_daily() -> None:
    """One task: build the partition `ds` of the dataset from the rows of that day."""

    @task(execution_timeout=timedelta(hours=6))
    def build(ds: str) -> None:
        home = Path(os.environ["HEADRACE_HOME"])
        submit = shlex.split(os.environ.get("SPARK_SUBMIT", "spark-submit"))
        command = [*submit, str(home / "jobs" / "build.py"), os.environ["HEADRACE_RECIPE"], f"ds={ds}"]
        status = subprocess.run(command, cwd=home, check=False).returncode
        if status in (WRONG_RECIPE, UNUSABLE_DATA):
            raise AirflowFailException(f"headrace: exit status {status}; the line above says what to fix")
        if status:
            raise AirflowException(f"headrace: exit status {status}; trying again")

    build()


headrace_daily()
