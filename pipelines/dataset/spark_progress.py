"""Progress of Spark jobs: tasks, rows and bytes, read from Spark's status store while the jobs run."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.sql import SparkSession

from headrace.progress import progress

POLL_SECONDS = 0.5


@contextmanager
def spark_progress(spark: SparkSession, name: str) -> Iterator[None]:
    """Show a bar of the tasks of all Spark jobs that this thread starts in the block, with the rows and bytes read.

    Spark updates the counts of a task when the task ends, and every few seconds while it runs.
    """
    context, group, done = spark.sparkContext, f"headrace-{uuid.uuid4().hex}", threading.Event()
    with progress(name, total=0, unit="tasks") as bar:

        def poll() -> None:
            counts = _counts(context, group)
            bar.total = counts.tasks
            bar.advance(counts.finished - bar.done, rows=f"{counts.rows:,}", MB=f"{counts.size / 1e6:,.0f}")

        def poll_until_done() -> None:
            while not done.wait(POLL_SECONDS):
                poll()

        watcher = threading.Thread(target=poll_until_done, name="headrace-progress", daemon=True)
        context.setJobGroup(group, name)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            poll()
            context.setLocalProperty("spark.jobGroup.id", None)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Counts:
    """The stages of some jobs: tasks done, tasks known, rows and bytes read from files and from other stages."""

    finished: int = 0
    tasks: int = 0
    rows: int = 0
    size: int = 0


def _counts(context: SparkContext, group: str) -> Counts:
    tracker = context.statusTracker()
    jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(group)]
    store = context._jsc.sc().statusStore()
    counts = Counts()
    for stage in {stage for job in jobs if job is not None for stage in job.stageIds}:
        try:
            data = store.lastStageAttempt(stage)
        except Py4JJavaError:  # not started yet, or already dropped from the store
            continue
        counts = Counts(
            counts.finished + data.numCompleteTasks(),
            counts.tasks + data.numTasks(),
            counts.rows + data.inputRecords() + data.shuffleReadRecords(),
            counts.size + data.inputBytes() + data.shuffleReadBytes(),
        )
    return counts
