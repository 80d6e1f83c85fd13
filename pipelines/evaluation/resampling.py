"""Confidence intervals by half-sampling.

A bootstrap draws some samples twice, and a copy at distance 0 distorts every metric that uses distances (nearest
neighbours, kernels, even FID). A half of the samples, drawn without replacement, contains no copies. Over such halves
the variance of a smooth statistic is σ²/m·(1 − m/n) = σ²/n for m = n/2, which is its variance over whole sets (Shao &
Wu 1989: the delete-d jackknife with d = n/2).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

NORMAL_95 = 1.959964


@dataclass(frozen=True)
class Measured:
    """A figure with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float]:
        """The figure as a JSON object."""
        return asdict(self)


def halves(sizes: Sequence[int], resamples: int, seed: int) -> Iterator[tuple[Tensor, ...]]:
    """Draw a random half (rounded up) of each set, `resamples` times: int64 indices for each set.

    `sizes` are the numbers of samples in the sets.
    """
    generator = torch.Generator().manual_seed(seed)
    for _ in range(resamples):
        yield tuple(torch.randperm(size, generator=generator)[: (size + 1) // 2] for size in sizes)


def measured(
    names: Sequence[str],
    statistic: Callable[..., Sequence[float]],
    sets: Sequence[Tensor],
    resamples: int,
    seed: int,
    done: Callable[[int], None] = lambda count: None,
) -> dict[str, Measured]:
    """The figures `statistic(*sets)`, named `names`, each with a normal interval from its spread over halves.

    The bias of a half (FID's is larger for fewer samples) shifts all halves equally, so it does not affect the
    interval. `done(1)` is called after each half.
    """
    values = statistic(*sets)
    found = []
    for chosen in halves([len(each) for each in sets], resamples, seed):
        found.append(tuple(statistic(*(each[index] for each, index in zip(sets, chosen, strict=True)))))
        done(1)
    spreads = NORMAL_95 * torch.tensor(found, dtype=torch.float64).std(0)
    return {
        name: Measured(value, value - spread, value + spread)
        for name, value, spread in zip(names, values, spreads.tolist(), strict=True)
    }
