"""Training as tasks of a Spark cluster, by Spark's own TorchDistributor: barrier tasks, and GPUs as Spark says."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from headrace.errors import RecipeError
from headrace.recipe import Recipe


def launch(recipe: Recipe, argv: Sequence[str], ranks: int) -> None:
    """Run `jobs/train.py` with `argv` as `ranks` processes, one to a task, in the session of the recipe's settings.

    Where the cluster's tasks have GPUs (`spark.task.resource.gpu.amount`), each rank takes the one of its task. What is
    wrong with the recipe is found here, before a task starts. Raises RecipeError without pyspark, or if the session has
    fewer slots than ranks; RuntimeError with the words of the rank that failed.
    """
    try:
        from pyspark.ml.torch.distributor import TorchDistributor
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise RecipeError(f"--launcher: found no {error.name}, expected headrace[spark] to be installed") from None
    _check(recipe, ranks)
    builder = SparkSession.builder.appName("headrace train")
    for key, value in recipe.spark.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    slots = spark.sparkContext.defaultParallelism
    if slots < ranks:
        raise RecipeError(f"--ranks: found {ranks}, expected at most the {slots} tasks that Spark runs at a time")
    gpus = float(spark.conf.get("spark.task.resource.gpu.amount", "0") or 0) > 0
    TorchDistributor(num_processes=ranks, local_mode=False, use_gpu=gpus).run(train, list(argv), os.getcwd())


def train(argv: Sequence[str], folder: str) -> None:
    """One rank, in a process of a task: relative paths are those of the driver."""
    from headrace.jobs.train import main

    if os.path.isdir(folder):
        os.chdir(folder)
    status = main(argv)
    if status:
        sys.exit(status)


def _check(recipe: Recipe, ranks: int) -> None:
    import torch

    from headrace.ranks.workers import Workers
    from headrace.training.run import load

    load(recipe, Workers(0, ranks, torch.device("cpu")))
