"""Ctrl-C, SIGTERM and SIGHUP: the first asks a study to stop, the second makes it; all else ends in order at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from search.errors import HUNG_UP, INTERRUPTED, TERMINATED


def orderly() -> None:
    """From now on SIGTERM and SIGHUP end this process as Ctrl-C does, cleaned up, with exit code 143 and 129."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup says to go on without a terminal
            signal.signal(number, lambda number, _: sys.exit(128 + number))


class Interrupt:
    """Counts Ctrl-C, SIGTERM and a terminal's hang-up; `number` is the first one's."""

    def __init__(self) -> None:
        self.count = 0
        self.number = signal.SIGINT
        self.armed = True

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP and self.count:
            return  # a closed terminal sends it, and its shell sends it again; nobody is in a hurry
        self.count += 1
        if self.count == 1:
            self.number = signal.Signals(number)
        elif self.armed:
            raise KeyboardInterrupt
        elif self.count > 2:
            os._exit(self.exit_code)  # everything that counts is on disk; MLflow is brought up to date by the next

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM, 129 for SIGHUP."""
        return {signal.SIGTERM: TERMINATED, signal.SIGHUP: HUNG_UP}.get(self.number, INTERRUPTED)


@contextmanager
def heeded() -> Iterator[Interrupt]:
    """The first signal asks running trials to checkpoint and stop; the second raises KeyboardInterrupt."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    heard = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup says to go on without a terminal
        heard.append(signal.SIGHUP)
    before = {s: signal.signal(s, interrupt) for s in heard}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
