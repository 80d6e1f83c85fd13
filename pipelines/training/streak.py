"""Consecutive bad steps: a run skips a few, and ends after many."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from headrace.errors import Diverged
from headrace.runs.checkpoints import Checkpoints


class Streak:
    """Counts consecutive steps with non-finite figures or gradients."""

    def __init__(self, most: int, checkpoints: Path) -> None:
        self.length = 0
        self._most, self._checkpoints = most, checkpoints

    def update(self, step: int, skipped: bool, odd: Sequence[str], shown: bool) -> None:
        """Count step `step`. `odd` names its non-finite figures. With `shown`, warn on stderr.

        Raises Diverged, which names the last good checkpoint, after too many bad steps in a row.
        """
        if not skipped and not odd:
            self.length = 0
            return
        self.length += 1
        names = ", ".join(odd) or "gradient"
        if shown and self.length == 1:
            done = "the step is skipped" if skipped else "the step is taken"
            print(f"headrace: step {step}: non-finite {names}; {done}", file=sys.stderr)
        if self.length >= self._most:
            good = [c.path for c in Checkpoints(self._checkpoints).all() if c.step <= step - self.length]
            raise Diverged(
                f"steps {step - self.length + 1} to {step}: non-finite {names}; the last good checkpoint is "
                f"{good[-1] if good else 'none'}. A lower training.learning_rate or a longer training.warmup may help, "
                "in another training.run"
            )
