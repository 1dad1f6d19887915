"""What the training thread and the reading thread of a worker share about the trial that runs."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Any

from search.trial.keeper import Keeper
from search.trial.memory import Peak
from search.trial.spec import TrialSpec

BEAT = 2.0  # seconds between two signs of life, at least
NEXT_BATCH = 1.0  # seconds for the next batch to begin, before training is broken off where it stands
PRESS = 0.1  # seconds until it is tried again: a message being sent is not broken off
BREAK_OFF = signal.SIGUSR1  # from the reading thread to the training thread, which may sleep or build
AFTER_EPOCHS = ("training", "validation", "measuring", "packaging")  # phases in which a moment more may save work

Send = Callable[[dict[str, Any]], None]


class Stopped(BaseException):
    """Raised in the training thread where its trial is broken off; no `except Exception` may swallow it."""


class Control:
    """One trial under way: its answers, its signs of life, and the order to stop.

    `phase` is loading, building, training, validation, measuring or packaging.
    """

    def __init__(self, spec: TrialSpec, send: Send) -> None:
        self.spec = spec
        self.keeper = Keeper(spec.path)
        self.answers: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.phase, self.epoch = "loading", 0
        self._send = send
        self.peak: Peak | None = None
        self._deadline = math.inf
        self._next_press = 0.0
        self._last_beat = 0.0
        self._shielded = 0
        self._over = False

    # ---- from the training thread

    def enter(self, phase: str) -> None:
        """A phase begins. Raises Stopped where the trial is to end."""
        self.phase = phase
        self._beat(time.monotonic(), 0)
        self._check(time.monotonic())

    def beat(self, phase: str, step: int) -> None:
        """A batch begins. Raises Stopped once the time that a stop order left is up."""
        self.phase, now = phase, time.monotonic()
        if now - self._last_beat >= BEAT:
            self._beat(now, step)
        self._check(now)

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message, never half of it."""
        with self._shield():
            self._send(message)

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a message and wait for its answer. Raises Stopped as `beat` does."""
        self.tell(message)
        return self.answers.get()

    def memory(self) -> dict[str, Any]:
        """The trial's peak so far, as messages carry it."""
        return self.peak.facts() if self.peak else {}

    @property
    def stopping(self) -> bool:
        """Whether the trial has been told to stop."""
        return self._deadline < math.inf

    def caught(self) -> None:
        """Stopped has come where it was meant to; nothing is broken off any more."""
        self._over = True

    def close(self) -> None:
        """The trial is over: a stop order that comes now changes nothing, and nothing more is written."""
        self._over = True
        self.keeper.close()

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """What BREAK_OFF does in the training thread."""
        if not self._shielded:
            self._check(time.monotonic())

    # ---- from the reading thread

    def stop(self, grace: float) -> None:
        """Keep what there is; let the running epoch end within `grace` seconds, then break training off.

        Before the first epoch there is nothing worth waiting for.
        """
        self._deadline = min(self._deadline, time.monotonic() + (grace if self.phase in AFTER_EPOCHS else 0.0))
        self.keeper.write()

    def press(self) -> None:
        """See to it that a trial whose time is up ends; call it again and again."""
        now = time.monotonic()
        late = now - self._deadline - (NEXT_BATCH if self.phase in AFTER_EPOCHS else 0.0)
        if late >= 0 and not self._over and now >= self._next_press:
            self._next_press = now + PRESS
            signal.pthread_kill(threading.main_thread().ident or 0, BREAK_OFF)

    @property
    def wait(self) -> float:
        """Seconds until `press` may have something to do."""
        return NEXT_BATCH if self._over else max(PRESS / 2, min(NEXT_BATCH, self._deadline - time.monotonic()))

    # ---- inside

    def _beat(self, now: float, step: int) -> None:
        self._last_beat = now
        where = {"phase": self.phase, "epoch": self.epoch, "step": step}
        self.tell({"event": "alive", **where, **self.memory()})

    def _check(self, now: float) -> None:
        if now >= self._deadline and not self._over:
            self._next_press = now + NEXT_BATCH  # again after that: a finalizer may have swallowed it
            raise Stopped

    @contextmanager
    def _shield(self) -> Iterator[None]:
        self._shielded += 1
        try:
            yield
        finally:
            self._shielded -= 1
