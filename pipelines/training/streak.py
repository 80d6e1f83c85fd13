"""Steps that were skipped in a row: a few are nothing, many are the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from headrace.errors import Diverged
from headrace.runs.checkpoints import Checkpoints


class Streak:
    """Counts the steps in a row that went wrong."""

    def __init__(self, most: int, checkpoints: Path) -> None:
        self.length = 0
        self._most, self._checkpoints = most, checkpoints

    def see(self, step: int, skipped: bool, odd: Sequence[str], shown: bool) -> None:
        """Take in step `step`; `odd` names the figures that are not finite. `shown`: warn on stderr.

        Raises Diverged with the last good checkpoint if too many in a row went wrong.
        """
        if not skipped and not odd:
            self.length = 0
            return
        self.length += 1
        names = ", ".join(odd) or "a gradient"
        if shown and self.length == 1:
            done = "the step is skipped" if skipped else "the step is done"
            print(f"headrace: step {step}: {names} is no finite number; {done}", file=sys.stderr)
        if self.length >= self._most:
            good = [c.path for c in Checkpoints(self._checkpoints).all() if c.step <= step - self.length]
            raise Diverged(
                f"steps {step - self.length + 1} to {step}: {names} is no finite number; the last good checkpoint is "
                f"{good[-1] if good else 'none'}. A lower training.learning_rate or a longer training.warmup may help, "
                "in another training.run"
            )
