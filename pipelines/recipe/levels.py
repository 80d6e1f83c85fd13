"""Checks for networks with several levels, each at half the resolution of the previous one."""

from collections.abc import Sequence

from headrace.recipe.text import check_heads


def check_levels(
    resolution: int, patch: int, widths: Sequence[int], attention: Sequence[int], attending: Sequence[int], heads: int
) -> None:
    """Raise ValueError unless the levels divide the resolution and `heads` divide the channels.

    `widths` are the channels of each level, `attention` the levels that the recipe gives attention, and `attending`
    the levels whose channels must be divisible by `heads`.
    """
    stride = patch * 2 ** (len(widths) - 1)
    if resolution % stride:
        raise ValueError(f"a resolution divisible by {stride}, patch · 2^(levels − 1)")
    if not all(0 <= level < len(widths) for level in attention):
        raise ValueError(f"attention at levels from 0 to {len(widths) - 1}")
    for level in attending:
        check_heads(f"channels at level {level}", widths[level], heads)
