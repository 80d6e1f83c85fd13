"""SIGTERM as a wish to stop: the step in hand is finished, everything is saved, and the status says «run me again»."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PREEMPTED = 128 + signal.SIGTERM
"""143: Kubernetes' PyTorchJob with `restartPolicy: ExitCode` runs it again, as it does every status from 128 up; Slurm
does with `--requeue`"""


class Preempted(SystemExit):
    """The run was told to stop and has been saved; ends the process with status 143."""

    def __init__(self) -> None:
        super().__init__(PREEMPTED)


class StopRequest:
    """Whether SIGTERM has come."""

    def __init__(self) -> None:
        self.made = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.made = True


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch SIGTERM for as long as the block runs (in the main thread; elsewhere nothing is caught)."""
    request = StopRequest()
    try:
        before = signal.signal(signal.SIGTERM, request._on_signal)
    except ValueError:  # not the main thread
        yield request
        return
    try:
        yield request
    finally:
        signal.signal(signal.SIGTERM, before)
