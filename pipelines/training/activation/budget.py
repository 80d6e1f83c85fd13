"""A budget of bytes as a policy: the first step measures, the second goes by the plan."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from pipelines.errors import RecipeError
from pipelines.training.activation.chain import Chain
from pipelines.training.activation.plan import Plan, segments_of
from pipelines.training.activation.planner import Planner, predict
from pipelines.training.activation.profile import ChainCost, Profile
from pipelines.training.activation.recompute import Frame

Report = Callable[[str], None]


class BudgetChain(Chain):
    """A chain that computes every block again until it has measured them all, then plans.

    Raises RecipeError, in the second forward pass, if no plan fits the budget; the least that would do is named.
    """

    def __init__(self, count: int, budget: int, report: Report) -> None:
        super().__init__(segments_of(count, 1))
        self._budget, self._report = budget, report
        self._profile: Profile | None = Profile()
        self._frames: dict[int, weakref.ref[Frame]] = {}

    def call(self, index: int, block: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run block `index`, measured while there is no plan yet."""
        profile = self._profile
        if profile is None or not torch.is_grad_enabled():
            return super().call(index, block, forward, args, kwargs)
        if index in profile and self._frames[index]() is None:
            self._settle(profile.cost())
            return super().call(index, block, forward, args, kwargs)
        frame = Frame(self._segments[index], profile.again)
        self._frames[index] = weakref.ref(frame)

        def measured(*arguments: Any, **named: Any) -> Any:
            if index in profile:
                return forward(*arguments, **named)
            with profile.forward(index, block, (arguments, named)) as output:
                output.append(forward(*arguments, **named))
            return output[0]

        return frame.run(index, block, measured, args, kwargs)

    def _settle(self, cost: ChainCost) -> None:
        planner = Planner(cost)
        plan = planner.plan(self._budget)
        if plan is None:
            found = f"found {self._budget:,} bytes, which no plan fits"
            raise RecipeError(f"training.activation: {found}, expected at least {planner.least():,}")
        self._profile = None
        self.follow(plan)
        self._report(table(plan, cost))


def table(plan: Plan, cost: ChainCost) -> str:
    """A plan as lines of text: what is done with each block, its costs, and what is predicted."""
    depth = _depths(plan)
    lines = ["block  computed again  MB inside  MB output  ms forward  ms backward"]
    for number, block in enumerate(cost.blocks):
        times = f"{depth[number]} ×" if depth[number] else "no"
        lines.append(
            f"{number:5}  {times:>14}  {block.inside / 1e6:9.2f}  {block.output / 1e6:9.2f}  "
            f"{block.forward * 1e3:10.2f}  {block.backward * 1e3:11.2f}"
        )
    prediction = predict(plan, cost)
    lines.append(
        f"predicted: {prediction.peak / 1e6:.2f} MB held by the blocks at most, {prediction.slowdown:.0%} slower"
    )
    return "\n".join(lines)


def _depths(plan: Plan) -> dict[int, int]:
    """How often each block is computed again."""
    depths: dict[int, int] = {}

    def visit(items: tuple[Any, ...], depth: int) -> None:
        for item in items:
            if isinstance(item, int):
                depths[item] = depth
            else:
                visit(item.items, depth + 1)

    visit(plan.items, 0)
    return depths
