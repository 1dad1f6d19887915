"""Outlives the coordinator by seconds to end what it left: `python -m search.executors.warden`.

Reads `+TOKEN` and `-TOKEN` lines from standard input; at its end, however it came, the processes with these
tokens get a moment to save and are then killed.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from search.executors import processes

MOMENT = 3.0  # seconds for workers to save and end by themselves
LOOK = 1.0  # seconds between two looks at whether the coordinator is there


def main() -> None:
    """Watch standard input."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # meant for the coordinator; this process ends with it
    tokens = _listen(sys.stdin.fileno(), os.getppid())
    deadline = time.monotonic() + MOMENT
    while tokens and processes.find(tokens) and time.monotonic() < deadline:
        time.sleep(0.1)
    # A second time, for what a process started while it was being ended.
    while tokens and processes.end(tokens):
        time.sleep(0.1)


def _listen(handle: int, coordinator: int) -> set[str]:
    """The tokens that were not taken back when the coordinator went."""
    tokens: set[str] = set()
    text = b""
    while True:
        ready, _, _ = select.select([handle], [], [], LOOK)
        if not ready:
            if os.getppid() != coordinator:  # a child of it may hold the pipe open
                return tokens
            continue
        data = os.read(handle, 65536)
        if not data:
            return tokens
        *lines, text = (text + data).split(b"\n")
        for line in lines:
            sign, token = line[:1], line[1:].decode()
            (tokens.add if sign == b"+" else tokens.discard)(token)


if __name__ == "__main__":
    main()
