"""A dataset of two dozen simple images, a network of a few thousand parameters, and runs of both."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from deltalake import write_deltalake

COLOURS = {"red": (0, 0, 255), "green": (0, 255, 0), "blue": (255, 0, 0)}


def write_dataset(path: Path, images: int = 24) -> None:
    """Squares and discs in three colours, in three shards. Every eighth caption is null. Labels are colours.

    A condition is the silhouette of its image, white on black.
    """
    rows = [_row(number) for number in range(images)]
    table = pa.table(
        {
            "sample_id": pa.array(range(images)),
            "image": pa.array([image for image, _, _ in rows], pa.binary()),
            "caption": pa.array([caption for _, caption, _ in rows], pa.string()),
            "label": pa.array([number % 3 for number in range(images)], pa.int32()),
            "condition": pa.array([condition for _, _, condition in rows], pa.binary()),
        }
    )
    for start in range(0, images, images // 3):
        write_deltalake(str(path), table.slice(start, images // 3), mode="append")


def _row(number: int) -> tuple[bytes, str | None, bytes]:
    colour, shape = list(COLOURS)[number % 3], ("square", "disc")[number % 2]
    image = np.full((24, 24, 3), 255, np.uint8)
    if shape == "square":
        image[6:18, 6:18] = COLOURS[colour]
    else:
        cv2.circle(image, (12, 12), 7, COLOURS[colour], -1)
    silhouette = np.where((image < 255).any(2), 255, 0).astype(np.uint8)
    encoded, condition = (cv2.imencode(".png", each)[1].tobytes() for each in (image, silhouette))
    return encoded, f"{colour} {shape}" if number % 8 else None, condition


def write_images(path: Path, images: int = 24) -> None:
    """The same images as a Parquet source, with a row for each image and its captions in an array."""
    rows = [_row(number) for number in range(images)]
    columns = {
        "id": pa.array(range(images)),
        "image": pa.array([image for image, _, _ in rows], pa.binary()),
        "captions": pa.array([[caption] if caption else [] for _, caption, _ in rows], pa.list_(pa.string())),
    }
    path.mkdir()
    pq.write_table(pa.table(columns), path / "images.parquet")


def recipe_of(dataset: Path, run: Path, **training: Any) -> dict[str, Any]:
    """A recipe that trains in a second or two."""
    return {
        "data": {"path": str(dataset), "batch_size": 8, "threads": 1},
        "model": {
            "resolution": 16,
            "patch": 2,
            "channels": 8,
            "multipliers": [1, 2],
            "blocks": 1,
            "attention": [1],
            "heads": 2,
            "text": {"vocabulary": 300, "length": 8, "width": 16, "layers": 1, "heads": 2},
        },
        "objective": {"prediction": "v"},
        "training": {
            "run": str(run),
            "steps": 10,
            "warmup": 4,
            "checkpoint_every": 4,
            "tensorboard": False,
            "precision": "fp32",
            **training,
        },
        "sampling": {"prompts": ["red square", "grüne Scheibe"], "steps": 3, "per_prompt": 2},
    }


def write_recipe(path: Path, recipe: dict[str, Any]) -> Path:
    """Write `recipe` as YAML."""
    path.write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    return path


def train(recipe: Path, log: Path | None = None, *overrides: str) -> None:
    """Train in this process, as `jobs/train.py` does, then end it with the job's exit status (for child processes)."""
    from headrace.jobs.train import main

    torch.set_num_threads(1)
    with contextlib.ExitStack() as stack:
        if log is not None:
            file = stack.enter_context(log.open("a"))
            stack.enter_context(contextlib.redirect_stderr(file))
            stack.enter_context(contextlib.redirect_stdout(file))
        status = main([str(recipe), *overrides])
    os._exit(status) if status else sys.exit(0)


def rank_of(rank: int, ranks: int, port: int, recipe: Path, log: Path, *overrides: str) -> None:
    """Run one rank with the environment that torchrun would set."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    train(recipe, log, *overrides)


def losses(run: Path) -> list[float]:
    """The losses of a run, step by step."""
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
