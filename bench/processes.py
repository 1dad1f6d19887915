"""The processes of one home folder: who they are, who has lost its coordinator, and how one of them is killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

WORKERS = ("search.trial.worker", "search.executors")


@dataclass(frozen=True)
class Process:
    """A process as it was seen; `born` tells it from a later one with the same number."""

    pid: int
    born: float
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def of_home(home: Path) -> list[Process]:
    """Every living process whose environment has this SEARCH_HOME, this process left out."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and process.environ().get("SEARCH_HOME") == str(home):
                found.append(Process(process.pid, process.create_time(), " ".join(process.cmdline())[:120]))
    return found


def orphans(home: Path, coordinator: int | None) -> list[Process]:
    """Processes of this home that are neither the living coordinator nor below it."""
    family = {coordinator, *descendants(coordinator)} if coordinator else set()
    return [process for process in of_home(home) if process.pid not in family]


def descendants(pid: int) -> set[int]:
    """The processes below `pid`."""
    with contextlib.suppress(psutil.Error):
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    return set()


def alive(process: Process) -> bool:
    """Whether that very process still lives; a zombie does not."""
    with contextlib.suppress(psutil.Error):
        now = psutil.Process(process.pid)
        return now.create_time() == process.born and now.status() != psutil.STATUS_ZOMBIE
    return False


def state(process: Process) -> str:
    """What the system says it does: running, sleeping, disk-sleep; gone where it is no more."""
    with contextlib.suppress(psutil.Error):
        return str(psutil.Process(process.pid).status())
    return "gone"


def workers(coordinator: int) -> list[int]:
    """The coordinator's worker processes, found within a tenth of a millisecond: the instant must not be over."""
    return [pid for pid in _below(coordinator) if any(word in _command(pid) for word in WORKERS)]


def send(pid: int, number: signal.Signals) -> bool:
    """Send a signal to exactly this process; whether it was there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def _below(pid: int) -> Iterator[int]:
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                yield child
                yield from _below(child)
    except OSError:
        return


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
