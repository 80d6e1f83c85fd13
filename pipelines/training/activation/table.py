"""A plan as a table for people."""

from __future__ import annotations

from typing import Any

from pipelines.training.activation.plan import Plan
from pipelines.training.activation.planner import predict
from pipelines.training.activation.profile import ChainCost


def table(plan: Plan, cost: ChainCost, name: str = "") -> str:
    """What is done with each block, its costs, and what is predicted; `name` is that of the pass, if it has one."""
    depth = _depths(plan)
    lines = [f"activation plan of {name}"] if name else []
    lines.append("block  computed again  MB inside  MB output  ms forward  ms backward")
    for number, block in enumerate(cost.blocks):
        times = f"{depth[number]} ×" if depth[number] else "no"
        lines.append(
            f"{number:5}  {times:>14}  {block.inside / 1e6:9.2f}  {block.output / 1e6:9.2f}  "
            f"{block.forward * 1e3:10.2f}  {block.backward * 1e3:11.2f}"
        )
    prediction = predict(plan, cost)
    lines.append(f"predicted: {prediction.peak / 1e6:.2f} MB held at most, {prediction.slowdown:.0%} slower")
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
