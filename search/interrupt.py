"""Ctrl-C and SIGTERM: the first asks a study to stop, the second makes it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from search.errors import INTERRUPTED, TERMINATED


class Interrupt:
    """Counts Ctrl-C and SIGTERM; `number` is the first one's."""

    def __init__(self) -> None:
        self.count = 0
        self.number = signal.SIGINT
        self.armed = True

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count == 1:
            self.number = signal.Signals(number)
        elif self.armed:
            raise KeyboardInterrupt
        elif self.count > 2:
            os._exit(self.exit_code)  # everything that counts is on disk; MLflow is brought up to date by the next

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return TERMINATED if self.number == signal.SIGTERM else INTERRUPTED


@contextmanager
def heeded() -> Iterator[Interrupt]:
    """The first signal asks running trials to checkpoint and stop; the second raises KeyboardInterrupt."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {s: signal.signal(s, interrupt) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
