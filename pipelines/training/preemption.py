"""SIGTERM as a stop request: the run finishes its step, saves, and exits with a status that means "run me again"."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

PREEMPTED = 128 + signal.SIGTERM
"""143: Kubernetes' PyTorchJob with `restartPolicy: ExitCode` restarts a process that ends with 128 or more, and so does
Slurm with `--requeue`"""


class Preempted(SystemExit):
    """The run received a stop request and was saved. Ends the process with status 143."""

    def __init__(self) -> None:
        super().__init__(PREEMPTED)


class StopRequest:
    """Whether SIGTERM has arrived."""

    def __init__(self) -> None:
        self.made = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.made = True


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Catch SIGTERM while the block runs. Works only in the main thread; elsewhere nothing is caught."""
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
