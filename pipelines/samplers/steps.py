"""Which of a table's noise levels a sampler visits."""

from typing import Literal

import torch
from torch import Tensor

Spacing = Literal["uniform", "quadratic", "trailing"]


def levels(table: Tensor, steps: int, spacing: Spacing = "trailing") -> Tensor:
    """`steps` levels of the ascending `table` [T], descending, then 0: float64 [steps + 1].

    "uniform" and "quadratic" are those of Song et al. (2021), appendix D.2: τ = ⌊c·i⌋ and ⌊c·i²⌋. "trailing" is
    uniform downwards from the last level (Lin et al. 2024, section 3.3), so that sampling starts from pure noise.
    Raises ValueError if `steps` is not between 1 and T.
    """
    total = len(table)
    if not 1 <= steps <= total:
        raise ValueError(f"steps: found {steps}, expected 1 to {total}")
    index = torch.arange(steps, dtype=torch.float64)
    if spacing == "uniform":
        taken = (index * (total / steps)).floor()
    elif spacing == "trailing":
        taken = ((index + 1) * (total / steps)).round() - 1
    elif spacing == "quadratic":
        # c puts the last step near 0.8·T. Where squares collide, the next free step is used.
        taken = (index * ((0.8 * total) ** 0.5 / max(steps - 1, 1))).square().floor()
        taken = torch.maximum(taken, torch.cummax(taken - index, 0).values + index).clamp(max=total - 1)
        taken = torch.minimum(taken, total - steps + index)
    else:
        raise ValueError(f"spacing: found {spacing!r}, expected uniform, quadratic or trailing")
    chosen = table.double()[taken.long().to(table.device)].flip(0)
    return torch.cat([chosen, chosen.new_zeros(1)])


def karras(smallest: float, largest: float, steps: int, rho: float = 7.0) -> Tensor:
    """Levels whose ρ-th roots are equally spaced, then 0 (Karras et al. 2022, equation 5): float64 [steps + 1]."""
    if not 0 < smallest < largest or steps < 1:
        raise ValueError(f"karras: found {smallest} to {largest} in {steps} steps, expected 0 < smallest < largest")
    roots = torch.linspace(largest ** (1 / rho), smallest ** (1 / rho), steps, dtype=torch.float64)
    return torch.cat([roots**rho, roots.new_zeros(1)])
