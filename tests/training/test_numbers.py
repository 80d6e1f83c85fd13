"""The trainer's arithmetic: precisions, skipped steps, settings for each network, operation counts."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from headrace.draws import Draws
from headrace.errors import DataError, Diverged, RecipeError
from headrace.objectives.objective import Batch
from headrace.runs.checkpoints import Checkpoints
from headrace.training import flops
from headrace.training.precision import GROWTH, PATIENCE, START, LossScale
from headrace.training.streak import Streak
from headrace.training.trainer import Trainer
from tests.training.test_trainer import SINGLE, Duel, Regression, batch, recipe, run, weights


class Poisoned(Regression):
    """Has a non-finite gradient in the given steps, and also corrupts the statistics of its batch norm."""

    def __init__(self, *steps: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        self.steps = steps

    def loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
        if draws.step in self.steps:
            batch = {"x": batch["x"] * float("nan")}
        return super().loss(batch, draws)


def state(trainer: Trainer) -> dict[str, Tensor]:
    tensors = trainer.tensors()
    groups = ("model", "model.optimizer")
    return {f"{group}/{name}": value.clone() for group in groups for name, value in tensors[group].items()}


def test_a_step_with_non_finite_gradients_changes_nothing() -> None:
    trainer = Trainer(Poisoned(3, 4), recipe(), 8, SINGLE)
    figures = run(trainer, 2)
    before = state(trainer)
    figures += run(trainer, 2)
    after = state(trainer)
    assert before.keys() == after.keys()
    # batch norm's counter of batches, its statistics, the weights and the moments are unchanged
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [figure["skipped"] for figure in figures] == [0, 0, 1, 1]
    assert after["model/0.weight"].isfinite().all()
    figures = run(trainer, 1)
    assert figures[0]["skipped"] == 0
    assert not torch.equal(before["model/0.weight"], state(trainer)["model/0.weight"])


def test_only_the_bad_one_of_several_phases_is_skipped() -> None:
    class Half(Duel):
        def critic_loss(self, batch: Batch, draws: Draws) -> tuple[Tensor, dict[str, Tensor]]:
            loss, figures = super().critic_loss(batch, draws)
            return loss * (float("inf") if draws.step == 5 else 1.0), figures

    objective = Half()
    trainer = Trainer(objective, recipe(), 8, SINGLE)
    run(trainer, 4)
    critic, generator = objective.critic.weight.clone(), objective.generator.weight.clone()
    assert run(trainer, 1)[0]["skipped"] == 1
    assert torch.equal(critic, objective.critic.weight)
    assert not torch.equal(generator, objective.generator.weight)


def test_a_streak_ends_the_run_with_the_last_good_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints = Checkpoints(tmp_path, keep=9)
    for step in (2, 4, 6):
        checkpoints.save(step, {"model": {"w": torch.ones(1)}}, {})
    checkpoints.wait()
    streak = Streak(3, tmp_path)
    streak.update(4, skipped=True, odd=["loss"], shown=True)
    streak.update(5, skipped=False, odd=[], shown=True)
    for step in (6, 7):
        streak.update(step, skipped=True, odd=["loss"], shown=True)
    with pytest.raises(Diverged, match=r"steps 6 to 8: non-finite loss; .* is .*step-00000004\. A lower"):
        streak.update(8, skipped=True, odd=["loss"], shown=True)
    assert capsys.readouterr().err.splitlines() == [
        f"headrace: step {step}: non-finite loss; the step is skipped" for step in (4, 6)
    ]


@pytest.mark.parametrize("objective", [Regression, Duel])
def test_fp16_is_scaled_and_goes_on_exactly(objective: Callable[[], Regression | Duel], tmp_path: Path) -> None:
    """Matrix products run in float16, losses are close to those in float32, and the scale is saved."""
    plain = run(Trainer(objective(), recipe(), 8, SINGLE), 10)
    whole = Trainer(objective(), recipe(precision="fp16"), 8, SINGLE)
    for scale in whole.scales.values():
        scale.load_state_dict({"scale": torch.tensor(2.0**40), "good": torch.tensor(0.0)})  # overflows at first
    figures = run(whole, 50)
    assert figures[0]["skipped"] >= 1
    # The scales have settled, except that of Duel's generator, which runs only every fifth step.
    assert sum(figure["skipped"] for figure in figures[-10:]) <= 2
    assert all(scale.state_dict()["scale"] < 2.0**40 for scale in whole.scales.values())
    modest = Trainer(objective(), recipe(precision="fp16"), 8, SINGLE)
    for scale in modest.scales.values():
        scale.load_state_dict({"scale": torch.tensor(128.0), "good": torch.tensor(0.0)})
    fresh = run(modest, 10)
    assert [f["loss"] for f in fresh] == pytest.approx([f["loss"] for f in plain], rel=0.05, abs=0.02)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(whole.steps, whole.tensors(), {})
    checkpoints.wait()
    newest = checkpoints.newest()
    assert newest is not None
    again = Trainer(objective(), recipe(precision="fp16"), 8, SINGLE)
    again.load(newest)
    assert {n: s.state_dict() for n, s in again.scales.items()} == {n: s.state_dict() for n, s in whole.scales.items()}
    assert repr(run(again, 5)) == repr(run(whole, 5))  # the norm of a skipped step is NaN in both


def test_the_scale_halves_and_doubles_as_torch_s_own() -> None:
    ours = LossScale(torch.device("cpu"), on=True)
    theirs = torch.amp.GradScaler("cpu", init_scale=START, growth_interval=PATIENCE)
    parameter = nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    generator = torch.Generator().manual_seed(0)
    for step in range(2 * PATIENCE + 50):
        finite = step >= 20 or bool(torch.rand((), generator=generator) < 0.5)
        parameter.grad = torch.ones(1) if finite else torch.full((1,), float("inf"))
        theirs.scale(torch.zeros(()))
        theirs.step(optimizer)
        theirs.update()
        ours.update(torch.tensor(finite))
        assert ours.state_dict()["scale"].item() == theirs.get_scale()
    assert theirs.get_growth_factor() == GROWTH


def test_networks_have_settings_of_their_own() -> None:
    """Compares with two optimizers that have these settings."""
    networks = {"critic": {"learning_rate": 0.2, "beta1": 0.0, "weight_decay": 0.0}, "generator": {"ema": 0.0}}
    objective, twin = Duel(), Duel()
    trainer = Trainer(objective, recipe(networks=networks, warmup=0), 8, SINGLE)
    optimizer = torch.optim.AdamW(twin.critic.parameters(), lr=0.2, betas=(0.0, 0.999), weight_decay=0.0)
    twin.generator.requires_grad_(False)
    for step in range(3):
        loss, _ = twin.critic_loss(batch(step), Draws(7, torch.arange(8 * step, 8 * step + 8), step + 1))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(twin.critic.parameters(), 1.0)
        optimizer.step()
        twin.clip()
    run(trainer, 3)
    torch.testing.assert_close(objective.critic.weight, twin.critic.weight)
    run(trainer, 2)
    assert torch.equal(trainer.networks["generator"].ema.averages["weight"], objective.generator.weight)
    with pytest.raises(RecipeError, match=r"training.networks: found 'judge', expected one of generator, critic"):
        Trainer(Duel(), recipe(networks={"judge": {}}), 8, SINGLE)


def test_learning_rates_of_networks_keep_their_ratio_through_warm_up() -> None:
    trainer = Trainer(Duel(), recipe(networks={"critic": {"learning_rate": 0.1}}, warmup=10), 8, SINGLE)
    run(trainer, 5)
    rates = {name: network.optimizer.param_groups[0]["lr"] for name, network in trainer.networks.items()}
    assert rates["critic"] == pytest.approx(0.1 * 5 / 10)
    assert rates["generator"] == pytest.approx(0.05 * 5 / 10)


def test_a_checkpoint_of_another_architecture_is_one_line(tmp_path: Path) -> None:
    trainer = Trainer(Regression(), recipe(), 8, SINGLE)
    run(trainer, 1)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, trainer.tensors(), {})
    checkpoints.wait()
    newest = checkpoints.newest()
    assert newest is not None
    wider, deeper = Regression(), Regression()
    wider.model[0], wider.model[3] = nn.Linear(4, 9), nn.Linear(9, 1)
    deeper.model.append(nn.Linear(1, 1))
    for other, what in ((wider, r"0.weight is \[8, 4\], expected \[9, 4\]"), (deeper, "model has 4.bias less")):
        with pytest.raises(DataError, match=rf"found weights of another architecture \(.*{what}"):
            Trainer(other, recipe(), 8, SINGLE).load(newest)


def test_operations_of_a_step_are_three_forward_passes() -> None:
    objective = Regression()
    before = copy.deepcopy(weights(objective))
    trainer = Trainer(objective, recipe(accumulate=2), 8, SINGLE)
    assert flops.per_step(trainer, batch(0)) == 3 * 8 * 2 * (4 * 8 + 8 * 1)
    assert all(torch.equal(a, b) for a, b in zip(before, weights(objective), strict=True))
    duel = Trainer(Duel(), recipe(), 8, SINGLE)
    linear = 2 * 4 * 4 * 8
    head = 2 * 4 * 8
    assert flops.per_step(duel, batch(0)) == 3 * (linear + 2 * head) + 3 * (linear + head) / 5


@pytest.mark.parametrize(
    ("name", "dtype", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", torch.bfloat16, 989e12),
        ("NVIDIA A100-SXM4-40GB", torch.float16, 312e12),
        ("Tesla V100-SXM2", torch.bfloat16, None),
        ("NVIDIA L4", torch.bfloat16, 121e12),
        ("GeForce 256", torch.float32, None),
    ],
)
def test_peaks_by_the_name_of_the_gpu(name: str, dtype: torch.dtype, peak: float | None) -> None:
    assert flops.peak(name, dtype) == peak
