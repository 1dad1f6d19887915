"""Finds and ends all that a worker started, by a token that every process inherits in its environment."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

TOKEN = "SEARCH_WORKER"
ROUNDS, PAUSE = 20, 0.01  # a process may start another while it is being ended


def find(tokens: Iterable[str], *, session: int | None = None) -> list[psutil.Process]:
    """The living processes with one of these tokens, and those of a session, whoever their parent is now.

    What may not be looked at (another user's) is left out, and so is a process that cleared its environment and
    made a session of its own.
    """
    wanted, found = set(tokens), []
    for process in psutil.process_iter():
        ours = False
        with suppress(psutil.Error, OSError):
            ours = session is not None and os.getsid(process.pid) == session
        with suppress(psutil.Error, OSError):
            ours = ours or process.environ().get(TOKEN) in wanted
        with suppress(psutil.Error, OSError):
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end(tokens: Iterable[str], *, session: int | None = None, spare: Iterable[int] = ()) -> list[str]:
    """Kill what `find` finds, but for the pids in `spare`, until nothing is left; the names of what was there.

    Takes milliseconds, and at most a few tenths of a second where something does not die.
    """
    wanted, spared = list(tokens), set(spare)
    names: dict[int, str] = {}
    for _ in range(ROUNDS):
        left = [p for p in find(wanted, session=session) if p.pid not in spared]
        if not left:
            break
        for process in left:
            with suppress(psutil.Error):
                names.setdefault(process.pid, process.name())
            with suppress(psutil.Error):
                process.kill()
        time.sleep(PAUSE)
    return [names[pid] for pid in sorted(names)]


def children(pid: int, names: Iterable[str]) -> list[psutil.Process]:
    """The children of a process that have one of these names."""
    found, wanted = [], set(names)
    with suppress(psutil.Error):
        for child in psutil.Process(pid).children():
            with suppress(psutil.Error):
                if child.name() in wanted:
                    found.append(child)
    return found


def resident(pid: int) -> float:
    """MB of resident memory of a process and its descendants; 0 where it is gone."""
    total = 0
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.Error):
                total += process.memory_info().rss
    return total / 1e6
