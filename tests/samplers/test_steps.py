"""Sub-sequences of a table's levels."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace import samplers

TABLE = torch.arange(1, 1001, dtype=torch.float64)


@given(st.integers(1, 1000), st.sampled_from(["uniform", "quadratic", "trailing"]))
def test_levels_are_of_the_table_and_descend_to_zero(steps: int, spacing: str) -> None:
    levels = samplers.levels(TABLE, steps, spacing)  # type: ignore[arg-type]
    assert len(levels) == steps + 1
    assert levels[-1] == 0
    assert (levels.diff() < 0).all()
    assert set(levels[:-1].tolist()) <= set(TABLE.tolist())


def test_spacings_are_those_of_the_papers() -> None:
    def steps(count: int, spacing: str) -> list[int]:
        return [int(level) - 1 for level in samplers.levels(TABLE, count, spacing)[:-1]]  # type: ignore[arg-type]

    assert steps(5, "uniform") == [800, 600, 400, 200, 0]
    assert steps(5, "trailing") == [999, 799, 599, 399, 199]
    assert steps(5, "quadratic") == [800, 450, 200, 50, 0]
    assert steps(1000, "uniform") == steps(1000, "trailing") == steps(1000, "quadratic")


def test_karras_levels_have_evenly_spaced_roots() -> None:
    levels = samplers.karras(0.002, 80.0, 18)
    roots = levels[:-1] ** (1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(17))
    assert (levels[0].item(), levels[-2].item(), levels[-1].item()) == pytest.approx((80.0, 0.002, 0.0))


@pytest.mark.parametrize("steps", [0, -1, 1001])
def test_more_steps_than_levels_or_none_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps: found {steps}, expected 1 to 1000"):
        samplers.levels(TABLE, steps)


def test_an_unknown_spacing_is_refused() -> None:
    with pytest.raises(ValueError, match="spacing: found 'cubic', expected uniform, quadratic or trailing"):
        samplers.levels(TABLE, 5, "cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="karras: found"):
        samplers.karras(1.0, 1.0, 5)
