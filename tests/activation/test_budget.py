"""A budget in bytes: the plan fits it, is the best that does, and takes the memory that it predicts."""

from __future__ import annotations

import copy
import gc
import itertools
import re
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from headrace import activation
from headrace.activation import Plan, Segment
from headrace.activation.budget import ROUNDS
from headrace.activation.meter import peak_bytes
from headrace.activation.planner import Planner, predict
from headrace.activation.profile import BlockCost, ChainCost
from headrace.errors import RecipeError
from tests.activation.test_policies import u_net, u_net_inputs

Items = tuple[int | Segment, ...]


def plans(first: int, last: int) -> Iterator[Items]:
    """Every plan for the blocks first … last in which the last block is kept."""
    if first == last:
        yield (first,)
        return
    for rest in plans(first + 1, last):
        yield (first, *rest)
    for end in range(first, last):
        for inside, rest in itertools.product(plans(first, end), plans(end + 1, last)):
            yield (Segment(inside), *rest)


blocks = st.builds(
    BlockCost,
    inside=st.integers(0, 30),
    output=st.integers(0, 20),
    forward=st.integers(1, 9).map(float),
    linked=st.just(True),
    keeps_input=st.just(True),
    keeps_output=st.just(False),
    workspace=st.just(5),
    again=st.integers(0, 9).map(float),
    backward=st.just(2.0),
)


@settings(max_examples=15, deadline=None)
@given(st.lists(blocks, min_size=2, max_size=5), st.integers(0, 150))
def test_no_plan_at_all_is_better(costs: list[BlockCost], budget: int) -> None:
    """Compares with every possible plan. Sizes are small enough for memory to be counted exactly."""
    cost = ChainCost(tuple(costs), fixed=7)
    every = [predict(Plan(items), cost) for items in plans(0, len(costs) - 1)]
    fitting = [prediction.slowdown for prediction in every if prediction.peak <= budget]
    found = Planner(cost).plan(budget)
    assert (found is None) == (not fitting)
    if found is not None:
        assert predict(found, cost).peak <= budget
        assert predict(found, cost).slowdown == pytest.approx(min(fitting))
    assert Planner(cost).least() == min(prediction.peak for prediction in every)


def test_no_segment_goes_across_a_gap() -> None:
    block = BlockCost(100, 10, 1.0, linked=True, keeps_input=True, keeps_output=False, workspace=0)
    costs = [replace(block, linked=number != 3) for number in range(6)]
    planner = Planner(ChainCost(tuple(costs), fixed=0))
    plan = planner.plan(planner.least())
    assert plan is not None
    assert plan.segments()
    for item in set(plan.segments().values()):
        assert not {2, 3} <= set(item.blocks())


class Waves(nn.Module):
    """A block that saves `depth` activations."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.depth = depth

    def forward(self, x_NC: Tensor) -> Tensor:
        x_NC = x_NC * self.scale
        for _ in range(self.depth):
            x_NC = torch.sin(x_NC)
        return x_NC


@pytest.fixture(scope="module")
def chain() -> nn.Module:
    model = nn.Module()
    model.blocks = nn.ModuleList(Waves(64, 1 + number % 7) for number in range(40))
    return model


def step(model: nn.Module) -> list[Tensor]:
    model.zero_grad()
    x = torch.linspace(0, 1, 1024 * 64).view(1024, 64)
    for block in model.blocks:  # type: ignore[union-attr]
        x = block(x)
    x.sum().backward()
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def measure(model: nn.Module) -> None:
    """Run the passes that come before the plan."""
    for _ in range(ROUNDS):
        step(model)


@pytest.mark.parametrize("share", [1.0, 0.8, 0.5, 0.3, 0.2])
def test_the_peak_is_what_was_predicted(chain: nn.Module, share: float) -> None:
    activation.apply(chain, "none")
    expected = step(chain)
    whole = peak_bytes(lambda: step(chain))
    tables: list[str] = []
    activation.apply(chain, int(share * whole), report=tables.append)
    measure(chain)
    assert not tables
    for ours, theirs in zip(step(chain), expected, strict=True):
        assert torch.equal(ours, theirs)
    (table,) = tables
    predicted = 1e6 * float(table.split("predicted: ")[1].split(" MB")[0])
    gc.collect()
    assert predicted <= share * whole
    assert peak_bytes(lambda: step(chain)) == pytest.approx(predicted, rel=0.1)


def test_a_budget_that_no_plan_fits_names_the_least(chain: nn.Module) -> None:
    activation.apply(chain, 1000)
    measure(chain)
    with pytest.raises(RecipeError, match=r"training.activation: found 1,000 bytes, .* expected at least") as refused:
        step(chain)
    least = int(str(refused.value).split("at least ")[1].replace(",", ""))
    activation.apply(chain, least, report=lambda table: None)
    measure(chain)
    step(chain)
    activation.apply(chain, least - 1)
    measure(chain)
    with pytest.raises(RecipeError, match=f"found {least - 1:,} bytes, .* expected at least {least:,}"):
        step(chain)


def test_several_forwards_before_a_backward_are_measured_as_one(chain: nn.Module) -> None:
    x = torch.linspace(0, 1, 1024 * 64).view(1024, 64)
    activation.apply(chain, 10**9, report=lambda table: None)

    def forward() -> Tensor:
        y = x
        for block in chain.blocks:  # type: ignore[union-attr]
            y = block(y)
        return y.sum()

    first, second = forward(), forward()
    (first + second).backward()
    measure(chain)
    chain.zero_grad()
    forward().backward()
    once = [parameter.grad.clone() for parameter in chain.parameters() if parameter.grad is not None]
    activation.apply(chain, "none")
    assert all(torch.equal(a, b) for a, b in zip(once, step(chain), strict=True))


NUMBERS = re.compile(r"([\d.]+) MB[^,]*, (-?\d+)%")
WATCHED = 3 * ROUNDS + 2
"""passes that are measured: for the profile, for time and for memory, then under the plan for memory and for time"""


def reported(lines: list[str]) -> tuple[float, float]:
    """The peaks that were measured and predicted, in MB."""
    (line,) = (line for line in lines if line.startswith("measured"))
    (measured, _), (predicted, _) = NUMBERS.findall(line)
    return float(measured), float(predicted)


@pytest.mark.parametrize(("megabytes", "bf16"), [(2.2, False), (1.4, False), (1.1, False), (2.2, True), (0.95, True)])
def test_a_measured_budget_is_for_all_that_a_pass_holds(megabytes: float, bf16: bool) -> None:
    """The prediction includes what is outside the blocks: embeddings, the last convolution, the loss, casts."""
    model = u_net()
    lines: list[str] = []
    applied = activation.apply(model, int(megabytes * 1e6), report=lines.append)
    inputs = u_net_inputs(8)

    def one() -> list[Tensor]:
        model.zero_grad()
        torch.manual_seed(1)
        with applied.measure("", torch.device("cpu"), model.parameters()):
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                loss = model(*inputs).square().mean()
            loss.backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    found = [one() for _ in range(WATCHED)]
    measured, predicted = reported(lines)
    assert predicted <= megabytes
    assert measured == pytest.approx(predicted, rel=0.1)
    activation.apply(model, "none")
    expected = one()
    assert all(torch.equal(a, b) for gradients in found for a, b in zip(gradients, expected, strict=True))
    whole = megabytes_of(model, inputs)
    assert predicted < (
        whole if megabytes < whole else 1.02 * whole
    )  # if everything is kept, the prediction may be above


def test_passes_that_measure_hold_no_more_than_full(chain: nn.Module) -> None:
    """Blocks are recomputed while they are measured, so recomputation is timed too."""
    x = torch.linspace(0, 1, 512 * 64).view(512, 64).requires_grad_()

    def one() -> None:
        y = x
        for block in chain.blocks:  # type: ignore[union-attr]
            y = block(y)
        y.sum().backward()

    def peak(policy: str | int) -> int:
        applied = activation.apply(chain, policy)
        gc.collect()

        def watched() -> None:
            with applied.measure("", torch.device("cpu"), chain.parameters()):
                one()

        return peak_bytes(watched)

    one()  # allocates the gradients
    whole, full = peak("none"), peak("full")
    assert full < 0.5 * whole
    assert peak(10**9) < 1.2 * full


def megabytes_of(model: nn.Module, inputs: tuple[object, ...]) -> float:
    gc.collect()
    return peak_bytes(lambda: model(*inputs).square().mean().backward()) / 1e6


def test_networks_share_a_budget_and_each_kind_of_pass_has_its_plan(chain: nn.Module) -> None:
    """A critic that is called twice in a pass, and a generator whose loss goes through the critic."""
    generator, critic = copy.deepcopy(chain), copy.deepcopy(chain)
    for model in (generator, critic):
        model.blocks = model.blocks[:14]  # type: ignore[index]
    lines: list[str] = []

    def run(model: nn.Module, x: Tensor) -> Tensor:
        for block in model.blocks:  # type: ignore[union-attr]
            x = block(x)
        return x

    def play(applied: activation.Applied) -> list[Tensor]:
        generator.requires_grad_(False)
        critic.requires_grad_(True)
        real, noise = torch.linspace(0, 1, 512 * 64).view(512, 64), torch.linspace(1, 2, 512 * 64).view(512, 64)
        with applied.measure("critic", torch.device("cpu"), critic.parameters()):
            (run(critic, run(generator, noise)) - run(critic, real)).sum().backward()
        generator.requires_grad_(True)
        critic.requires_grad_(False)
        with applied.measure("generator", torch.device("cpu"), generator.parameters()):
            run(critic, run(generator, noise)).sum().backward()
        gradients = [p.grad.clone() for m in (generator, critic) for p in m.parameters() if p.grad is not None]
        generator.zero_grad()
        critic.zero_grad()
        return gradients

    expected = play(activation.apply([generator, critic], "none"))
    applied = activation.apply([generator, critic], 3_500_000, report=lines.append)
    for _ in range(WATCHED):
        assert all(torch.equal(a, b) for a, b in zip(play(applied), expected, strict=True))
    plans = [line for line in lines if line.startswith("activation plan")]
    assert [plan.splitlines()[0] for plan in plans] == ["activation plan of critic", "activation plan of generator"]
    assert all(len(plan.splitlines()) == 31 for plan in plans)  # 14 blocks, twice
    measures = [line for line in lines if line.startswith("measured")]
    assert len(measures) == 2
    for line in measures:
        measured, predicted = reported([line])
        assert predicted <= 3.5
        assert measured == pytest.approx(predicted, rel=0.1)
