"""An Airflow DAG that builds one day's partition of a dataset every night by `spark-submit`, and every day missed.

A build is one transaction and idempotent: a day may be run again at any time, and one whose input is the same changes
nothing. Exit statuses 2 (the recipe is wrong) and 3 (the data is unusable) do not go away by trying again, so they fail
the task at once; anything else, such as a lost executor, is tried again.

Set in the environment of the workers:
  HEADRACE_RECIPE   a recipe with `output: {path: …, partition: ds}`
  HEADRACE_HOME     where jobs/build.py is: a clone, or the folder that the wheel was unpacked to
  SPARK_SUBMIT      the command, with its options: `spark-submit --master yarn --deploy-mode client`
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
    catchup=True,  # the days since start_date that have not been built are
    max_active_runs=2,  # builds of different days may commit at once
    default_args={"retries": 3, "retry_delay": timedelta(minutes=5), "retry_exponential_backoff": True},
    tags=["headrace"],
)
def headrace_daily() -> None:
    """One task: the partition `ds` of the dataset, from the rows of that day."""

    @task(execution_timeout=timedelta(hours=6))
    def build(ds: str) -> None:
        home = Path(os.environ["HEADRACE_HOME"])
        submit = shlex.split(os.environ.get("SPARK_SUBMIT", "spark-submit"))
        command = [*submit, str(home / "jobs" / "build.py"), os.environ["HEADRACE_RECIPE"], f"ds={ds}"]
        status = subprocess.run(command, cwd=home, check=False).returncode
        if status in (WRONG_RECIPE, UNUSABLE_DATA):
            raise AirflowFailException(f"headrace: exit status {status}; its line above says what to mend")
        if status:
            raise AirflowException(f"headrace: exit status {status}; trying again")

    build()


headrace_daily()
