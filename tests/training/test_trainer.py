"""The trainer runs phases, without data or files."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from headrace.draws import Draws
from headrace.errors import RecipeError
from headrace.objectives.objective import Batch, Phase
from headrace.ranks.workers import Workers
from headrace.recipe.training import Training
from headrace.runs.checkpoints import Checkpoints
from headrace.training.trainer import Trainer

SINGLE = Workers(rank=0, world_size=1, device=torch.device("cpu"))


class Regression:
    """Fits y = x·1 under noise, in one phase with dropout and draws."""

    def __init__(self, dropout: float = 0.0) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
        self.seen: list[Tensor] = []

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"model": self.model}

    def phases(self) -> Sequence[Phase]:
        return [Phase("fit", ("model",), self.loss)]

    def loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        self.seen.append(draws.samples)
        noisy = batch["x"] + 0.1 * draws.normal("noise", 4)
        error = (self.model(noisy) - batch["x"].sum(1, keepdim=True)).square().mean()
        return error, {"error": error.detach()}


class Duel:
    """Two networks, with five steps of the critic for each step of the generator, as in WGAN."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.generator, self.critic = nn.Linear(4, 4), nn.Linear(4, 1)
        self.log: list[str] = []

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        return {"generator": self.generator, "critic": self.critic}

    def phases(self) -> Sequence[Phase]:
        return [
            Phase("critic", ("critic",), self.critic_loss, after=self.clip),
            Phase("generator", ("generator",), self.generator_loss, every=5),
        ]

    def critic_loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        self.log.append("critic")
        fake = self.generator(draws.normal("z", 4))
        assert not fake.requires_grad
        return self.critic(fake).mean() - self.critic(batch["x"]).mean(), {}

    def generator_loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        self.log.append("generator")
        assert not self.critic.weight.requires_grad
        return -self.critic(self.generator(draws.normal("z", 4))).mean(), {}

    def clip(self) -> None:
        with torch.no_grad():
            for parameter in self.critic.parameters():
                parameter.clamp_(-0.01, 0.01)


def recipe(**changes: object) -> Training:
    values = {"run": "unused", "steps": 20, "warmup": 3, "learning_rate": 0.05, "seed": 7}
    values |= {"precision": "fp32", **changes}
    return Training.model_validate(values)


def batch(step: int, samples: int = 8) -> dict[str, Tensor]:
    return {"x": torch.randn(samples, 4, generator=torch.Generator().manual_seed(step))}


def run(trainer: Trainer, steps: int) -> list[dict[str, float | int]]:
    return [trainer.step(batch(trainer.steps)).read() for _ in range(steps)]


def weights(objective: Regression | Duel) -> list[Tensor]:
    return [p.detach().clone() for module in objective.networks.values() for p in module.parameters()]


def test_first_steps_are_those_of_adamw() -> None:
    """Compares with torch's own optimizer and clipping in a plain loop."""
    objective = Regression()
    reference = copy.deepcopy(objective)
    trainer = Trainer(objective, recipe(warmup=0, clip=0.1, weight_decay=0.0), 8, SINGLE)
    figures = run(trainer, 5)
    optimizer = torch.optim.AdamW(reference.model.parameters(), lr=0.05, weight_decay=0.0)
    for step in range(5):
        loss, _ = reference.loss(batch(step), Draws(7, torch.arange(8 * step, 8 * step + 8)))
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(reference.model.parameters(), 0.1)
        optimizer.step()
        assert figures[step]["loss"] == pytest.approx(loss.item())
        assert figures[step]["grad_norm"] == pytest.approx(norm.item())
    for ours, theirs in zip(weights(objective), weights(reference), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_figures_of_a_step() -> None:
    figures = run(Trainer(Regression(), recipe(), 8, SINGLE), 2)[1]
    assert list(figures) == ["step", "samples", "learning_rate", "loss", "error", "grad_norm", "skipped", "stop"]
    assert (figures["step"], figures["samples"], figures["stop"]) == (2, 16, 0.0)
    assert figures["learning_rate"] == pytest.approx(0.05 * 2 / 3)


@pytest.mark.parametrize("accumulate", [2, 4, 8])
def test_accumulation_changes_nothing_but_rounding(accumulate: int) -> None:
    whole, parts = Regression(), Regression()
    expected = run(Trainer(whole, recipe(), 8, SINGLE), 6)
    found = run(Trainer(parts, recipe(accumulate=accumulate), 8, SINGLE), 6)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert torch.equal(torch.cat(parts.seen), torch.cat(whole.seen))


def test_bf16_runs_matrix_products_in_bfloat16() -> None:
    objective = Regression()
    types = []
    objective.model[0].register_forward_hook(lambda *args: types.append(args[-1].dtype))
    figures = run(Trainer(objective, recipe(precision="bf16"), 8, SINGLE), 3)
    assert types == [torch.bfloat16] * 3
    assert figures[0]["loss"] == pytest.approx(run(Trainer(Regression(), recipe(), 8, SINGLE), 1)[0]["loss"], rel=0.02)


def test_phases_alternate_and_change_their_own_networks() -> None:
    objective = Duel()
    trainer = Trainer(objective, recipe(), 8, SINGLE)
    before = objective.generator.weight.detach().clone()
    first_four = run(trainer, 4)
    assert torch.equal(objective.generator.weight, before)
    fifth = run(trainer, 1)[0]
    assert not torch.equal(objective.generator.weight, before)
    assert objective.log == ["critic"] * 5 + ["generator"]
    assert "generator/loss" not in first_four[-1]
    assert fifth["loss"] == pytest.approx(fifth["critic/loss"] + fifth["generator/loss"])
    assert objective.critic.weight.abs().max() <= 0.01


@pytest.mark.parametrize("objective", [lambda: Regression(0.3), Duel])
def test_resuming_from_a_checkpoint_is_exact(objective: Callable[[], Regression | Duel], tmp_path: Path) -> None:
    whole = Trainer(objective(), recipe(), 8, SINGLE)
    expected = run(whole, 12)
    first = Trainer(objective(), recipe(), 8, SINGLE)
    run(first, 7)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, first.tensors(), {})
    checkpoints.wait()
    run(first, 2)
    torch.manual_seed(99)
    second = Trainer(objective(), recipe(), 8, SINGLE)
    run(second, 1)
    newest = checkpoints.newest()
    assert newest is not None
    second.load(newest)
    assert run(second, 5) == expected[7:]
    for group, named in whole.tensors().items():
        assert all(torch.equal(value, second.tensors()[group][name]) for name, value in named.items()), group


def test_each_network_has_an_average_that_changes() -> None:
    objective = Duel()
    trainer = Trainer(objective, recipe(ema=0.5), 8, SINGLE)
    start = {name: network.ema.averages["weight"].clone() for name, network in trainer.networks.items()}
    run(trainer, 5)
    for name, network in trainer.networks.items():
        assert not torch.equal(network.ema.averages["weight"], start[name])
        assert not torch.equal(network.ema.averages["weight"], network.module.weight)


def test_ranks_take_every_world_size_th_sample() -> None:
    objective = Regression()
    trainer = Trainer(objective, recipe(), 8, SINGLE)
    trainer.workers = Workers(rank=1, world_size=2, device=torch.device("cpu"))
    trainer.part = 4
    (part,) = trainer.parts(batch(0, 4), seen=16)
    assert part[1].samples.tolist() == [17, 19, 21, 23]


def test_shares_that_do_not_divide_are_one_line() -> None:
    with pytest.raises(RecipeError, match=r"data.batch_size: found 8, expected a multiple of the 3 ranks"):
        Workers(0, 3, torch.device("cpu")).share(8)
    with pytest.raises(RecipeError, match=r"training.accumulate: found 3, expected a divisor of a rank's 8 samples"):
        Trainer(Regression(), recipe(accumulate=3), 8, SINGLE)
