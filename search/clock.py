"""What time it is: this machine's, or a simulated time while recorded trainings are replayed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Simulated:
    """A clock that stands still until somebody moves `time` (seconds since 1970) on."""

    time: float


_replacing: list[Simulated] = []


def now() -> float:
    """Seconds since 1970."""
    return _replacing[-1].time if _replacing else time.time()


def monotonic() -> float:
    """Seconds since whenever; a difference of two is a span of time."""
    return _replacing[-1].time if _replacing else time.monotonic()


def is_simulated() -> bool:
    """Whether time is simulated. What is recorded then can be had again, and need not outlive a power cut."""
    return bool(_replacing)


@contextmanager
def simulated(begin: float) -> Iterator[Simulated]:
    """Time is what the clock that this gives says, from `begin` on, while the block runs."""
    clock = Simulated(begin)
    _replacing.append(clock)
    try:
        yield clock
    finally:
        _replacing.remove(clock)
