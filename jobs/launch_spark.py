"""Training as tasks of a Spark cluster, by Spark's TorchDistributor: barrier tasks, and the GPUs that Spark assigns."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from headrace.errors import RecipeError
from headrace.recipe import RunRecipe

Job = Callable[[Sequence[str]], int]


def launch(recipe: RunRecipe, job: Job, argv: Sequence[str], ranks: int) -> None:
    """Run `job(argv)` in `ranks` processes, one in each task, in a Spark session with the recipe's settings.

    If the cluster's tasks have GPUs (`spark.task.resource.gpu.amount`), each rank takes the one of its task. The recipe
    is checked here, before a task starts. Raises RecipeError without pyspark, or if the session has fewer slots than
    ranks; RuntimeError with the output of the rank that failed.
    """
    try:
        from pyspark.ml.torch.distributor import TorchDistributor
        from pyspark.sql import SparkSession
    except ImportError as error:
        found = f"found no {error.name}, expected headrace[spark] to be installed"
        raise RecipeError(f"argument --launcher: {found}") from None
    _check(recipe, ranks)
    builder = SparkSession.builder.appName("headrace train")
    for key, value in recipe.spark.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    slots = spark.sparkContext.defaultParallelism
    if slots < ranks:
        expected = f"expected at most the {slots} tasks that Spark runs at a time"
        raise RecipeError(f"argument --ranks: found {ranks}, {expected}")
    gpus = float(spark.conf.get("spark.task.resource.gpu.amount", "0") or 0) > 0
    TorchDistributor(num_processes=ranks, local_mode=False, use_gpu=gpus).run(run_rank, job, list(argv), os.getcwd())


def run_rank(job: Job, argv: Sequence[str], folder: str) -> None:
    """Run `job(argv)` as one rank, in the process of a task. Relative paths start at `folder`, the driver's."""
    if os.path.isdir(folder):
        os.chdir(folder)
    status = job(argv)
    if status:
        sys.exit(status)


def _check(recipe: RunRecipe, ranks: int) -> None:
    """Raise RecipeError or DataError as a run of so many ranks would."""
    import torch

    from headrace.ranks.workers import Workers
    from headrace.training.run import open_run

    open_run(recipe, Workers(0, ranks, torch.device("cpu")))
