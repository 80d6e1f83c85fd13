"""A budget of bytes as a policy: the first passes measure the blocks, and later passes follow the plan."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from headrace.activation.chain import Chain, Checkpointed
from headrace.activation.meter import Meter, metered
from headrace.activation.plan import Plan, Segment, each
from headrace.activation.planner import Planner, held_at_end, predict, table
from headrace.activation.profile import ChainCost, Clock, Profile, quicker
from headrace.activation.recompute import Frame, Observer, flatten
from headrace.errors import RecipeError

Report = Callable[[str], None]
ROUNDS = 2
"""how many passes measure each time; the quickest counts"""
UNKNOWN = Segment((-1,))
"""for a call that did not occur when its kind of pass was measured: computed again by itself"""


class BudgetChain(Chain):
    """A chain that measures each kind of pass (each phase of an objective) and then plans it.

    Raises RecipeError, in the pass after the last measured one, if no plan fits the budget. The error names the
    smallest budget that would do.
    """

    def __init__(self, budget: int, report: Report) -> None:
        super().__init__(Plan(()))
        self._budget, self._report = budget, report
        self._passes: dict[str, _Pass] = {}
        self._name = ""
        self._measuring = False

    def call(self, place: int, block: Checkpointed, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Run block number `place`; measure it if there is no plan yet."""
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        kind = self._kind()
        if kind.measures and not self._measuring and kind.over(place):
            kind.end_of_profile()
            if not kind.measures:
                self._settle(kind)
        if kind.measures:
            return kind.measured(place, block, forward, args, kwargs)
        position = kind.position(place)
        segment = kind.segments.get(position) if position >= 0 else UNKNOWN
        if segment is None:
            output = forward(*args, **kwargs)
        else:
            frame = self._open() if self._open is not None else None
            if frame is None or not frame.goes_on(position, segment, args, kwargs):
                frame = Frame(segment, kind.second_runs)
                self._open = weakref.ref(frame)
            output = frame.run(position, block, block._owners, forward, args, kwargs)
        kind.ran(position)
        return output

    @contextmanager
    def measure(self, name: str, device: torch.device, parameters: Iterable[Tensor] = ()) -> Iterator[None]:
        """Measure the pass in the context, if its kind still needs measuring."""
        self._name, self._measuring = name, True
        kind = self._kind()
        kind.begin()
        with ExitStack() as stack:
            if kind.weighs:
                for parameter in parameters:  # allocate gradients beforehand, so that they are not counted
                    if parameter.requires_grad and parameter.grad is None:
                        parameter.grad = torch.zeros_like(parameter)
                kind.meter = stack.enter_context(metered(device))
            kind.clock.start(device)
            yield
            kind.clock.stop()
            kind.end(self._settle, self._report)
        self._name, self._measuring = "", False

    def _kind(self) -> _Pass:
        if self._name not in self._passes:
            self._passes[self._name] = _Pass(self._name)
        return self._passes[self._name]

    def _settle(self, kind: _Pass) -> None:
        assert kind.cost is not None
        planner = Planner(kind.cost)
        plan = planner.plan(self._budget)
        if plan is None:
            found = f"found {self._budget:,} bytes, which no plan fits"
            raise RecipeError(f"training.activation: {found}, expected at least {planner.least():,}")
        kind.follow(plan)
        self._report(table(plan, kind.cost, kind.name))


class _Pass(Observer):
    """One kind of pass: the calls of blocks that it makes, in order, and the stage of its measurement.

    The stages: `profile` each call; `pace` (time passes that compute every block again); `weigh` (measure bytes held
    outside blocks, gradients that wait, and autocast's copies of weights); then follow the plan and `check` its peak;
    `time` the planned pass; `done`.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.cost: ChainCost | None = None
        self.segments: dict[int, Segment] = {}
        self.clock = Clock()
        self._times: list[tuple[float, float]] = []
        self._quickest = (0.0, 0.0)
        """seconds of the quickest pass, and the part of them spent in second runs"""
        self.meter: Meter | None = None
        self.plan: Plan | None = None
        self._casts: dict[int, int] = {}
        self._waiting: dict[int, int] = {}
        """bytes of gradients held when the backward pass reaches a call, besides that of its output"""
        self._profile: Profile | None = Profile()
        self._left = ROUNDS
        self._frames: dict[int, weakref.ref[Frame]] = {}
        self._calls: dict[int, list[int]] = {}
        """the positions of each block's calls in the pass"""
        self._next: dict[int, int] = {}
        self._stage = "profile"

    @property
    def measures(self) -> bool:
        """Whether calls are still being profiled."""
        return self._profile is not None

    @property
    def weighs(self) -> bool:
        """Whether this pass needs a meter."""
        return self._stage in ("weigh", "check")

    @property
    def second_runs(self) -> Observer | None:
        """The observer of second runs at this stage, if any."""
        if self._stage == "weigh":
            return self
        return self.clock if self._stage in ("pace", "time") else None

    def over(self, place: int) -> bool:
        """Whether a call of block `place` begins a new pass: nothing is left of the block's last call."""
        return place in self._frames and self._frames[place]() is None

    def measured(self, place: int, block: Checkpointed, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Profile one call."""
        profile = self._profile
        assert profile is not None
        leaves, _ = flatten(args, kwargs)
        needed = (leaf for leaf in (*leaves, *block.parameters()) if isinstance(leaf, Tensor))
        if not any(leaf.requires_grad for leaf in needed):
            return forward(*args, **kwargs)
        position = len(profile)
        self._calls.setdefault(place, []).append(position)
        frame = Frame(Segment((position,)), profile)
        self._frames[place] = weakref.ref(frame)
        first = True

        def profiled(*arguments: Any, **named: Any) -> Any:
            nonlocal first
            if not first:
                return forward(*arguments, **named)
            first = False
            with profile.forward(block, (arguments, named)) as output:
                output.append(forward(*arguments, **named))
            return output[0]

        return frame.run(position, block, block._owners, profiled, args, kwargs)

    def position(self, place: int) -> int:
        """The position of this call in the pass, or −1 if it did not occur when the pass was measured."""
        calls = self._calls.get(place)
        if not calls:
            return -1
        number = self._next.get(place, 0)
        self._next[place] = (number + 1) % len(calls)
        return calls[number]

    def begin(self) -> None:
        """Begin a measured pass."""
        self._next.clear()
        if self._profile is not None and len(self._profile):  # the previous pass was broken off
            self._profile = Profile()
            self._calls.clear()

    def ran(self, position: int) -> None:
        """After a call: weigh autocast's copies of its weights and, after the last, what is held outside blocks."""
        if self._stage != "weigh" or self.meter is None or self.cost is None or position < 0:
            return
        before = self.meter.now()
        torch.clear_autocast_cache()
        self._casts[position] = before - self.meter.now()
        if position == len(self.cost.blocks) - 1:
            held = held_at_end(each(len(self.cost.blocks)), self.cost)
            self.cost = replace(self.cost, outside=self.meter.now() - held)
            self.meter.restart()

    @contextmanager
    def refill(self, index: int) -> Iterator[None]:
        """Before a call's second run: weigh the gradients that wait; before the last call's, the peak after it too."""
        assert self.cost is not None
        if self.meter is not None:
            blocks = self.cost.blocks
            if index == len(blocks) - 1:
                held = held_at_end(each(len(blocks)), self.cost) + self.cost.outside
                self.cost = replace(self.cost, tail=max(0, self.meter.peak() - held))
            inputs = self.cost.fixed + sum(block.output for block in blocks[: index + 1])
            self._waiting[index] = max(0, self.meter.now() - self.cost.outside - inputs)
        yield

    def end_of_profile(self) -> None:
        """Take the costs of a profiled pass. After the last profiled pass, the calls and their costs are settled."""
        assert self._profile is not None
        if not len(self._profile):
            return
        cost = self._profile.cost()
        self.cost = cost if self.cost is None else quicker(self.cost, cost)
        self._left -= 1
        if self._left:
            self._profile = Profile()
            self._calls.clear()
        else:
            self._profile = None
        self._frames.clear()

    def end(self, settle: Callable[[_Pass], None], report: Report) -> None:
        """End a measured pass and go to the next stage."""
        if self._stage == "profile":
            self.end_of_profile()
            if not self.measures:
                self.segments, self._stage = each(len(self.cost.blocks) if self.cost else 0).segments(), "pace"
        elif self._stage == "pace" and self._timed():
            assert self.cost is not None
            self.cost, self._stage = paced(self.cost, *self._quickest), "weigh"
        elif self._stage == "weigh":
            assert self.cost is not None
            self.meter, self.cost = None, weighed(self.cost, self._waiting, self._casts)
            settle(self)
            self._stage = "check"
        elif self._stage == "check":
            assert self.meter is not None
            self._peak, self.meter, self._stage = self.meter.peak(), None, "time"
        elif self._stage == "time" and self._timed():
            self._stage = "done"
            report(self._measured())

    def _timed(self) -> bool:
        """Take the seconds of this pass; returns whether it was the last of its stage: the quickest is known."""
        self._times.append((self.clock.seconds, self.clock.seconds_again))
        if len(self._times) < ROUNDS:
            return False
        self._quickest = min(self._times)
        self._times.clear()
        return True

    def _measured(self) -> str:
        assert self.cost is not None
        assert self.plan is not None
        prediction = predict(self.plan, self.cost)
        seconds, again = self._quickest
        return (
            f"measured: {self._peak / 1e6:.2f} MB held at most, {again / max(1e-9, seconds - again):.0%} slower "
            f"(predicted: {prediction.peak / 1e6:.2f} MB, {prediction.slowdown:.0%})"
        )

    def follow(self, plan: Plan) -> None:
        """Follow `plan` from the next pass on."""
        self.plan, self.segments = plan, plan.segments()


def paced(cost: ChainCost, seconds: float, seconds_again: float) -> ChainCost:
    """`cost` with its times scaled to those of passes that computed every block again and measured nothing else."""
    again = sum(block.again for block in cost.blocks)
    factor = seconds_again / again if again else 1.0
    blocks = tuple(replace(block, forward=factor * block.forward, again=factor * block.again) for block in cost.blocks)
    cost = replace(cost, blocks=blocks, around=0.0)
    return replace(cost, around=seconds - seconds_again - cost.seconds)


def weighed(cost: ChainCost, waiting: Mapping[int, int], casts: Mapping[int, int]) -> ChainCost:
    """`cost` with two more kinds of bytes.

    `waiting` are gradients held while a block's backward runs, such as those of a U-Net's skips. `casts` are copies of
    weights that autocast made for a block and holds until the forward pass ends.
    """
    blocks = (
        replace(block, workspace=block.workspace + waiting.get(number, 0), casts=casts.get(number, 0))
        for number, block in enumerate(cost.blocks)
    )
    return replace(cost, blocks=tuple(blocks))
