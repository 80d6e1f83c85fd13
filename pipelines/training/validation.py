"""The loss under averaged weights, always on the same samples with the same noise."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from headrace.draws import Draws
from headrace.errors import RecipeError
from headrace.loading import ShardLoader
from headrace.ranks.workers import Workers
from headrace.runs import data
from headrace.systems import System
from headrace.training.trainer import Trainer

SEED = 0x5EED


def loader(system: System, part: int, workers: Workers) -> ShardLoader:
    """This rank's loader of the samples to evaluate, in batches of `part`, which is what a network gets in training.

    Raises RecipeError if there are not enough samples for one batch on every rank.
    """
    recipe = system.recipe
    where = recipe.training.evaluate_where or recipe.data.where
    found = data.held_out(recipe.data.model_copy(update={"where": where}), system.image_shape, part, workers)
    if not len(found):
        expected = f"expected at least {part * workers.world_size}"
        raise RecipeError(f"training.evaluate_where: found {found.epoch_samples} samples in {where}, {expected}")
    return found


class Validation:
    """Evaluates a trainer's networks on the first `evaluate_samples` of a loader."""

    def __init__(self, trainer: Trainer, batches: ShardLoader, collate: data.Collator) -> None:
        self._trainer, self._loader, self._collate = trainer, batches, collate
        each = batches.batch_size * batches.world_size
        self._count = max(1, min(len(batches), trainer.training.evaluate_samples // each))

    def figures(self) -> dict[str, float]:
        """`evaluation/loss`, and with several phases also `evaluation/<phase>/loss`, as means over all ranks."""
        trainer = self._trainer
        modules = [network.module for network in trainer.networks.values()]
        for network in trainer.networks.values():
            network.ema.swap()
            network.module.eval()
        try:
            losses = self._losses()
        finally:
            trainer.ranks.reshard()
            for module in modules:
                module.train()
            for network in trainer.networks.values():
                network.ema.swap()
        means = trainer.workers.mean(torch.stack(list(losses.values()))).tolist()
        figures = dict(zip(losses, means, strict=True))
        if len(figures) > 1:
            return {"evaluation/loss": sum(means), **figures}
        return {"evaluation/loss": means[0]}

    def _losses(self) -> Mapping[str, Tensor]:
        trainer = self._trainer
        totals: dict[str, Tensor] = {}
        self._loader.set_epoch(0)
        batches: Any = itertools.islice(self._loader, self._count)
        # Only objectives with several phases penalise a gradient, which needs the graph.
        with torch.set_grad_enabled(len(trainer.phase_steps) > 1):
            for raw in batches:
                batch = self._collate(raw)
                samples = raw["_position"].to(trainer.workers.device)
                for step in trainer.phase_steps:
                    step.begin()
                    with trainer.autocast:
                        loss, _ = trainer.ranks.plain(step.phase.name, batch, Draws(SEED, samples, trainer.steps))
                    name = f"evaluation/{step.phase.name}/loss"
                    totals[name] = totals.get(name, torch.zeros_like(loss.detach())) + loss.detach() / self._count
        return totals
