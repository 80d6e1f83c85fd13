"""A plan: which blocks of a chain keep what their backward needs, and which are computed again from a stored input."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Segment:
    """Consecutive blocks of which only the input is stored.

    When the backward pass reaches the segment, its blocks run again as `items` say. A number is a block that now keeps
    what its backward needs; a nested segment stores its own input and is computed once more.
    """

    items: tuple[int | Segment, ...]

    def blocks(self) -> Iterator[int]:
        """The numbers of its blocks, in order."""
        for item in self.items:
            if isinstance(item, int):
                yield item
            else:
                yield from item.blocks()


@dataclass(frozen=True)
class Plan:
    """What happens to each block of a chain, in order: `items` as in a segment, but for the first forward pass."""

    items: tuple[int | Segment, ...]

    def segments(self) -> dict[int, Segment]:
        """The outermost segment of each block that has one, by the block's number."""
        return {block: item for item in self.items if isinstance(item, Segment) for block in item.blocks()}

    def __str__(self) -> str:
        """Block numbers; those in brackets are computed again, one pair of brackets for each time."""
        return _text(self.items)


def _text(items: tuple[int | Segment, ...]) -> str:
    return " ".join(str(item) if isinstance(item, int) else f"[{_text(item.items)}]" for item in items)


def each(count: int) -> Plan:
    """A plan that computes every block again, each from its own stored input."""
    return Plan(tuple(Segment((block,)) for block in range(count)))


def segments_of(count: int, length: int) -> Plan:
    """Segments of `length` blocks; the last one is shorter if `length` does not divide `count`.

    The last segment is kept. Its backward pass begins at once, so computing it again would save nothing.
    """
    whole = [tuple(range(start, min(start + length, count))) for start in range(0, count, length)]
    return Plan((*(Segment(blocks) for blocks in whole[:-1]), *(whole[-1] if whole else ())))


def square_root(count: int) -> Plan:
    """Segments of ⌈√n⌉ blocks (Chen et al. 2016, section 4.1): memory grows with √n, for at most one more forward."""
    return segments_of(count, max(1, math.isqrt(max(0, count - 1)) + 1))
