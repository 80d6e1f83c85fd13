"""Progress of Spark's jobs, read from its status tracker while they run."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from pyspark import SparkContext
from pyspark.sql import SparkSession

from pipelines.progress import progress

POLL_SECONDS = 0.5


@contextmanager
def spark_progress(spark: SparkSession, name: str) -> Iterator[None]:
    """Show a bar of the tasks of all Spark jobs that this thread starts meanwhile."""
    context, group, done = spark.sparkContext, f"headrace-{uuid.uuid4().hex}", threading.Event()
    with progress(name, total=0, unit="tasks") as bar:

        def poll() -> None:
            finished, total = _tasks(context, group)
            bar.total = total
            bar.advance(finished - bar.done)

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


def _tasks(context: SparkContext, group: str) -> tuple[int, int]:
    """Tasks done and tasks known, over the stages of the group's jobs."""
    tracker = context.statusTracker()
    jobs = [tracker.getJobInfo(job) for job in tracker.getJobIdsForGroup(group)]
    stages = {stage for job in jobs if job is not None for stage in job.stageIds}
    infos = [info for stage in stages if (info := tracker.getStageInfo(stage)) is not None]
    return sum(info.numCompletedTasks for info in infos), sum(info.numTasks for info in infos)
