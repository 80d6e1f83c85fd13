"""What a run is made of: networks, trainer, loader, collator, from a recipe."""

from __future__ import annotations

import functools
import sys

import torch
from torch import nn

from headrace import activation, systems
from headrace.models.tokens import CaptionTokenizer
from headrace.objectives import Objective
from headrace.ranks.workers import Workers
from headrace.recipe import Recipe
from headrace.runs import data
from headrace.runs.run_folder import RunFolder, sections
from headrace.training.trainer import Trainer


def trainer(recipe: Recipe, folder: RunFolder, workers: Workers) -> Trainer:
    """The trainer of the recipe's system, with fresh weights. Every rank builds the same."""
    of = sections(recipe)
    torch.manual_seed(of.training.seed)
    objective = systems.of(recipe).objective(of, folder, workers.device)
    applied = activation.apply(
        networks(objective),
        of.training.activation,
        every=of.training.segment,
        report=functools.partial(print, file=sys.stderr) if workers.first else lambda text: None,
        compile=of.training.compile,
    )
    return Trainer(objective, of.training, of.data.batch_size, workers, applied)


def networks(objective: Objective) -> list[nn.Module]:
    """All networks that take part, frozen ones included: gradients flow through these too."""
    others = (value for value in vars(objective).values() if isinstance(value, nn.Module))
    return list(dict.fromkeys([*objective.networks.values(), *others]))


def collator(recipe: Recipe, folder: RunFolder, workers: Workers) -> data.Collator:
    """What makes tensors of the loader's batches."""
    of = sections(recipe)
    tokenizer = None if systems.of(recipe).text(of) is None else CaptionTokenizer.load(folder.tokenizer)
    return data.Collator(of.data, tokenizer, workers.device, getattr(of.model, "labels", None))
