"""The learning rate as a function of the samples seen, stateless and independent of the number of ranks."""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class LearningRate:
    """Linear warm-up to `peak` over `warmup` samples, then `decay` until `total` samples.

    - constant: stays at the peak.
    - cosine: half a cosine down to 0 at `total` (Loshchilov & Hutter 2017, eq. 5, without restarts).
    - inverse_sqrt: peak·√(warmup / samples), as in Vaswani et al. 2017, eq. 3.
    """

    peak: float
    warmup: int
    total: int
    decay: Literal["constant", "cosine", "inverse_sqrt"] = "constant"

    def __call__(self, samples: int) -> float:
        """The rate of the step that ends when `samples` (≥ 1) samples have been seen."""
        if samples < self.warmup:
            return self.peak * samples / self.warmup
        if self.decay == "constant":
            return self.peak
        if self.decay == "inverse_sqrt":
            return self.peak * math.sqrt(max(1, self.warmup) / samples)
        done = (samples - self.warmup) / max(1, self.total - self.warmup)
        return self.peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
