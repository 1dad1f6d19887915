"""How a worker ended: what its exit code means, what it last wrote, and whether the kernel killed it for memory."""

from __future__ import annotations

import re
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
TAIL = 64_000  # bytes of a log that are looked at


@dataclass(frozen=True)
class Died:
    """A worker ended; its trial sends no more.

    `told`: it was ordered or made to end. `oom`: it was ended for its memory, by the kernel or for a limit (`why` then
    says used and limit). `peak_memory` is the last known peak of the trial in MB, `exit_code` below zero a signal.
    """

    exit_code: int
    last_line: str = ""
    told: bool = False
    oom: bool = False
    peak_memory: float | None = None
    why: str = ""

    def __str__(self) -> str:
        what = "the worker was ended" if self.told or self.why else "the worker died"
        how = [self.why or _how(self.exit_code)]
        if self.oom and not self.why:
            how.append("the kernel ran out of memory")
        text = f"{what} ({', '.join(how)})"
        return f"{text}: {self.last_line}" if self.last_line and not self.told else text


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return f"exit {exit_code}"
    try:
        return f"signal {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"signal {-exit_code}"


LIBRARY = re.compile(r"[IWEF]\d{4} \d\d:\d\d|[IWE]0000 |WARNING: All log messages before absl")  # TensorFlow's own log


def last_line(log: Path) -> str:
    """What a process last wrote, in one line of at most 300 characters; of a crash in C, what and where."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = [i for i, line in enumerate(lines) if line.startswith("Fatal Python error: ")]
    if fatal:  # faulthandler's; what follows is every thread's stack
        dump = lines[fatal[-1] :]
        current = [i for i, line in enumerate(dump) if line.startswith("Current thread")]
        where = dump[current[0] + 1] if current and len(dump) > current[0] + 1 else ""
        return f"{dump[0]}, {where}"[:300] if where.startswith("File") else dump[0][:300]
    said = [line for line in lines if not LIBRARY.match(line)]
    return said[-1][:300] if said else ""


def kernel_kills() -> int:
    """How many processes the kernel has killed for memory, in this control group where that is counted.

    0 where nothing is counted; only a rise says something.
    """
    for path, key in _counters():
        with suppress(OSError, ValueError):
            for line in path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == key:
                    return int(count)
    return 0


def _counters() -> list[tuple[Path, str]]:
    """Where to look, the narrowest first: any killing elsewhere on the machine is none of ours."""
    found = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            own = name.lstrip("/")
            if not controllers:  # version 2
                found += [CGROUPS / own / "memory.events", CGROUPS / "unified" / own / "memory.events"]
                found += [CGROUPS / "memory.events"]  # a container's own group is mounted as the root
            elif "memory" in controllers.split(","):
                found += [CGROUPS / "memory" / own / "memory.oom_control", CGROUPS / "memory" / "memory.oom_control"]
    return [(path, "oom_kill") for path in (*found, Path("/proc/vmstat"))]
