"""The trainer and the collator of a run, from its system."""

from __future__ import annotations

import functools
import sys

import torch
from torch import nn

from headrace import activation
from headrace.models.tokens import CaptionTokenizer
from headrace.objectives import Objective
from headrace.ranks.workers import Workers
from headrace.runs import data
from headrace.runs.run_folder import RunFolder
from headrace.systems import System
from headrace.training.trainer import Trainer


def trainer(system: System, folder: RunFolder, workers: Workers) -> Trainer:
    """The trainer of a system, with fresh weights. Every rank builds the same one."""
    training = system.recipe.training
    torch.manual_seed(training.seed)
    objective = system.objective(folder, workers.device)
    applied = activation.apply(
        networks(objective),
        training.activation,
        every=training.segment,
        report=functools.partial(print, file=sys.stderr) if workers.first else lambda text: None,
        compile=training.compile,
    )
    return Trainer(objective, training, system.recipe.data.batch_size, workers, applied)


def networks(objective: Objective) -> list[nn.Module]:
    """All networks of an objective, including frozen ones: gradients flow through those too."""
    others = (value for value in vars(objective).values() if isinstance(value, nn.Module))
    return list(dict.fromkeys([*objective.networks.values(), *others]))


def collator(system: System, folder: RunFolder, workers: Workers) -> data.Collator:
    """The collator of a system, with the tokenizer that the run's folder holds."""
    tokenizer = None if system.text is None else CaptionTokenizer.load(folder.tokenizer)
    labels = getattr(system.recipe.model, "labels", None)
    return data.Collator(system.recipe.data, tokenizer, workers.device, labels)
