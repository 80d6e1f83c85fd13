"""The plan with the least extra time under a budget of bytes, and what any plan is predicted to cost.

`Planner` finds plans by dynamic programming over the chain: the persistent schedules for heterogeneous chains of
Beaumont, Eyraud-Dubois, Herrmann, Joly & Shilova (2020, theorem 1). For blocks i … j with m bytes free, the input of i
being held already, let C be the least extra seconds:

    keep i:                C(i, j, m) = C(i+1, j, m − inside_i − output_i)
    compute i … k−1 again: C(i, j, m) = Σ forward_i…k−2 + again_k−1 + C(k, j, m − output_k−1) + C(i, k−1, m)

Here again_k−1 ≤ forward_k−1, because nothing needs the last block's output a second time. No segment crosses a place
where two blocks are not linked.

`predict` walks through a plan and counts bytes exactly, where the planner rounds them to slots. `table` prints both.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from headrace.activation.plan import Plan, Segment
from headrace.activation.profile import BlockCost, ChainCost

SLOTS = 2000
"""how many slots the planner counts memory in; sizes are rounded up to whole slots"""


class Planner:
    """Finds the best plan of one chain for any budget."""

    def __init__(self, cost: ChainCost) -> None:
        self.cost = cost
        self._count = len(cost.blocks)
        total = sum(block.inside + block.output for block in cost.blocks)
        total += max(block.workspace for block in cost.blocks)
        self._unit = max(1, -(-total // SLOTS))
        self._inside = [self._slots(block.inside) for block in cost.blocks]
        self._output = [self._slots(block.output) for block in cost.blocks]
        following = [*map(_holds_input, cost.blocks[1:]), True]
        self._workspace = [self._slots(block.workspace) for block in cost.blocks]
        self._kept = [  # the slots that the blocks after it lose if a block is kept
            inside + (output if block.keeps_output or held else 0)
            for inside, output, block, held in zip(self._inside, self._output, cost.blocks, following, strict=True)
        ]

    def plan(self, budget: int) -> Plan | None:
        """The plan with the least extra time whose predicted peak is at most `budget` bytes, or None."""
        fitting = [
            (prediction.slowdown, prediction.peak, number)
            for number, (_, prediction) in enumerate(self._candidates)
            if prediction.peak <= budget
        ]
        return self._candidates[min(fitting)[-1]][0] if fitting else None

    def least(self) -> int:
        """The smallest budget, in bytes, that some plan fits."""
        return min(prediction.peak for _, prediction in self._candidates)

    @cached_property
    def _candidates(self) -> list[tuple[Plan, Prediction]]:
        """The best plan for each number of free slots, with its prediction."""
        plans = dict.fromkeys(self._at(slots) for slots in range(self._table[0][0][-1].size))
        return [(plan, predict(plan, self.cost)) for plan in plans if plan is not None]

    def _slots(self, size: int) -> int:
        return -(-size // self._unit)

    def _at(self, slots: int) -> Plan | None:
        times, _ = self._table
        if not np.isfinite(times[0][self._count - 1][slots]):
            return None
        return Plan(tuple(self._read(0, self._count - 1, slots)))

    @cached_property
    def _table(self) -> tuple[list[list[np.ndarray]], list[list[np.ndarray]]]:
        """C(i, j, ·) over slots, and the choices: 0 keeps block i, and k − i > 0 stores the input of block k."""
        count, size = self._count, SLOTS + 2 * self._count + 1
        times = [[np.full(size, np.inf) for _ in range(count)] for _ in range(count)]
        choices = [[np.zeros(size, np.int16) for _ in range(count)] for _ in range(count)]
        forward = np.concatenate([[0.0], np.cumsum([block.forward for block in self.cost.blocks])])
        for i in reversed(range(count)):
            alone = self._inside[i] + self._workspace[i] + (self._output[i] if i == count - 1 else 0)
            times[i][i][alone:] = 0.0
            for j in range(i + 1, count):
                best, choice = _later(times[i + 1][j], self._kept[i]), choices[i][j]
                best[: self._kept[i] + self._workspace[i]] = np.inf
                for k in range(i + 1, j + 1):
                    if k - 1 > i and not self.cost.blocks[k - 1].linked:
                        break
                    again = forward[k - 1] - forward[i] + self.cost.blocks[k - 1].again
                    time = again + _later(times[k][j], self._output[k - 1]) + times[i][k - 1]
                    choice[time < best] = k - i
                    best = np.minimum(best, time)
                times[i][j] = best
        return times, choices

    def _read(self, i: int, j: int, slots: int) -> list[int | Segment]:
        items: list[int | Segment] = []
        _, choices = self._table
        while i < j:
            length = int(choices[i][j][slots])
            if length:
                items.append(Segment(tuple(self._read(i, i + length - 1, slots))))
                slots -= self._output[i + length - 1]
                i += length
            else:
                items.append(i)
                slots -= self._kept[i]
                i += 1
        return [*items, i]


@dataclass(frozen=True)
class Prediction:
    """The most bytes that a plan will hold, and the share of extra time it will cost."""

    peak: int
    slowdown: float


def predict(plan: Plan, cost: ChainCost) -> Prediction:
    """Walk through forward and backward as `plan` says, counting the bytes held and the workspace of each backward."""
    walk = _Walk(cost)
    walk.items(plan.items, cost.fixed, last_output=True)
    peak = max(walk.peak, walk.at_end + cost.tail) + cost.outside
    return Prediction(peak, walk.extra / cost.seconds if cost.seconds else 0.0)


def held_at_end(plan: Plan, cost: ChainCost) -> int:
    """The bytes that the blocks hold when the last one has run."""
    walk = _Walk(cost)
    walk.items(plan.items, cost.fixed, last_output=True)
    return walk.at_end


class _Walk:
    def __init__(self, cost: ChainCost) -> None:
        self._blocks = cost.blocks
        self.peak = self.at_end = 0
        self.extra = 0.0

    def items(self, items: tuple[int | Segment, ...], held: int, last_output: bool) -> None:
        """Forward over `items`, then backward. `last_output` says whether the last one's output is held too."""
        starts: list[int] = []
        for number, item in enumerate(items):
            starts.append(held)
            held += self._blocks[item].inside if isinstance(item, int) else 0
            following = items[number + 1] if number + 1 < len(items) else None
            held += self._output(item, following, last_output)
            workspace = self._blocks[item].workspace if isinstance(item, int) else 0
            self.peak = max(self.peak, held + workspace)
        if last_output:
            again = (block for item in items if isinstance(item, Segment) for block in item.blocks())
            self.at_end = held + sum(self._blocks[block].casts for block in again)
        for number, item in reversed(list(enumerate(items))):
            if isinstance(item, Segment):
                self.items(item.items, starts[number], last_output=False)
                *whole, last = item.blocks()
                self.extra += sum(self._blocks[block].forward for block in whole) + self._blocks[last].again

    def _output(self, item: int | Segment, following: int | Segment | None, last_output: bool) -> int:
        """The bytes of the output of `item` that are held until its backward."""
        last = item if isinstance(item, int) else list(item.blocks())[-1]
        if following is None:
            needed = last_output
        else:
            needed = not isinstance(following, int) or _holds_input(self._blocks[following])
        own = isinstance(item, int) and self._blocks[item].keeps_output
        return self._blocks[last].output if needed or own else 0


def _holds_input(block: BlockCost) -> bool:
    """Whether the previous block's output is held if both blocks are kept: by this block, or by code between them."""
    return block.keeps_input or not block.linked


def _later(times: np.ndarray, slots: int) -> np.ndarray:
    """A copy of `times` for `slots` fewer free slots."""
    moved = np.full_like(times, np.inf)
    moved[slots:] = times[: times.size - slots]
    return moved


def table(plan: Plan, cost: ChainCost, name: str = "") -> str:
    """A table of each block's treatment and costs, and the prediction. `name` is the pass's name, if it has one."""
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
    """How many times each block is computed again."""
    depths: dict[int, int] = {}

    def visit(items: tuple[Any, ...], depth: int) -> None:
        for item in items:
            if isinstance(item, int):
                depths[item] = depth
            else:
                visit(item.items, depth + 1)

    visit(plan.items, 0)
    return depths
