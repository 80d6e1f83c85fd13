"""Training as tasks of a Spark cluster, by Spark's own TorchDistributor: barrier tasks, and GPUs as Spark says."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from pipelines.errors import DataError, RecipeError


def launch(argv: Sequence[str], settings: Mapping[str, str], ranks: int) -> None:
    """Run `jobs/train.py` with `argv` as `ranks` processes, one to a task, in the session with these settings.

    Where the cluster's tasks have GPUs (`spark.task.resource.gpu.amount`), each rank takes the one of its task. Raises
    RecipeError without pyspark, or if the session has fewer slots than ranks.
    """
    try:
        from pyspark.ml.torch.distributor import TorchDistributor
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise RecipeError(f"--launcher: found no {error.name}, expected headrace[spark] to be installed") from None
    builder = SparkSession.builder.appName("headrace train")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    slots = spark.sparkContext.defaultParallelism
    if slots < ranks:
        raise RecipeError(f"--ranks: found {ranks}, expected at most the {slots} tasks that Spark runs at a time")
    gpus = float(spark.conf.get("spark.task.resource.gpu.amount", "0") or 0) > 0
    distributor = TorchDistributor(num_processes=ranks, local_mode=False, use_gpu=gpus)
    status = distributor.run(train, list(argv), os.getcwd())
    if status:
        raise (RecipeError if status == 2 else DataError if status == 3 else RuntimeError)(
            f"{argv[0]}: a rank ended with status {status}; its own words are in the log above"
        )


def train(argv: Sequence[str], folder: str) -> int:
    """One rank, in a process of a task: relative paths are those of the driver. Returns the exit status."""
    from jobs.train import main

    if os.path.isdir(folder):
        os.chdir(folder)
    status = main(argv)
    if status not in (0, 2, 3):
        sys.exit(status)
    return status
