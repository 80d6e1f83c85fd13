"""Peak resident memory of a driver, its JVM and its Python workers, sampled from /proc while something runs."""

import os
import threading
from pathlib import Path
from types import TracebackType

EVERY_SECONDS = 0.1
PAGE = os.sysconf("SC_PAGE_SIZE")


class Peaks:
    """A context that records `megabytes` of each kind: the most that all processes of a kind held at once."""

    def __init__(self) -> None:
        self.megabytes = dict.fromkeys(("driver", "jvm", "workers"), 0.0)
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="peaks", daemon=True)

    def __enter__(self) -> "Peaks":
        self._watcher.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._done.is_set():
            now = dict.fromkeys(self.megabytes, 0.0)
            for pid in _family(os.getpid()):
                kind = "driver" if pid == os.getpid() else "jvm" if _name(pid) == "java" else "workers"
                now[kind] += _resident(pid) / 1e6
            self.megabytes = {kind: max(most, now[kind]) for kind, most in self.megabytes.items()}
            self._done.wait(EVERY_SECONDS)


def _family(root: int) -> list[int]:
    """`root` and all processes under it."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(path.name))
    family = [root]
    for pid in family:
        family += children.get(pid, [])
    return family


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _resident(pid: int) -> int:
    """Resident bytes of a process.

    Pages that forked workers share are divided among them (PSS), if the kernel reports that.
    """
    try:
        fields = dict(
            line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:] if ":" in line
        )
        return int(fields["Pss"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        try:
            return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
        except OSError:
            return 0
