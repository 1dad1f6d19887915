"""When a trial's state is copied and written: at most 2 % of training time, and always where it is asked for."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from search.trial import checkpoints
from search.trial.checkpoints import Snapshot

SHARE = 0.02  # of the attempt's training time, for copies and files together
COPY_SHARE = 0.01  # of it, for copies alone, so that files get their turn
MARGIN = 1.2  # on what the last one cost
COPY_FIRST, COPY_SPEED = 0.002, 1e9  # what the first copy is taken to cost: seconds, and bytes a second
WRITE_FIRST, WRITE_SPEED = 0.02, 1e8


class Keeper:
    """The newest copy of one attempt's state, and how much of it is on disk. Any thread may call `write`.

    `epochs` are those of the checkpoint the attempt goes on from.
    """

    def __init__(self, folder: Path, epochs: int = 0, clock: Callable[[], float] = time.perf_counter) -> None:
        self.folder, self._clock = folder, clock
        self.on_disk = epochs
        self.spent = 0.0
        self.trained = 0.0
        self.trouble = ""
        self._latest: Snapshot | None = None
        self._closed = False
        self._copied = 0.0
        self._copy_cost: float | None = None
        self._write_cost: float | None = None
        self._lock = threading.Lock()

    def acknowledged(self, training: Any, seconds: float, *, must: bool) -> None:
        """An epoch that took `seconds` is on the coordinator's disk: copy and write as the budget allows, or `must`.

        A file that cannot be written costs the trial nothing; `trouble` says what happened.
        """
        self.trained += seconds
        size = training.size
        copy = MARGIN * self._copy_cost if self._copy_cost is not None else COPY_FIRST + size / COPY_SPEED
        write = MARGIN * self._write_cost if self._write_cost is not None else WRITE_FIRST + size / WRITE_SPEED
        full = must or self.spent + copy + write <= SHARE * self.trained
        if full or (self._copied + copy <= COPY_SHARE * self.trained and self.spent + copy <= SHARE * self.trained):
            self._copy(training)
        if full:
            self.write()

    def save(self, training: Any) -> None:
        """Copy and write the state as it is; only between epochs, from the training thread."""
        if self.on_disk < len(training.history):
            self._copy(training)
        self.write()

    def write(self) -> int:
        """Write the newest copy where it is not on disk; returns the epochs that are."""
        with self._lock:
            latest = self._latest
            if latest is not None and latest.epochs > self.on_disk and not self._closed:
                started = self._clock()
                try:
                    checkpoints.write(self.folder, latest)
                    self.on_disk, self.trouble = latest.epochs, ""
                except OSError as error:
                    self.trouble = f"the checkpoint of epoch {latest.epochs} could not be written: {error}"
                self._write_cost = self._clock() - started
                self.spent += self._write_cost
            return self.on_disk

    def close(self) -> None:
        """From now on write nothing: a finished trial's checkpoints are removed, and none may come after."""
        with self._lock:
            self._closed, self._latest = True, None

    def _copy(self, training: Any) -> None:
        if self._latest is not None and self._latest.epochs == len(training.history):
            return
        started = self._clock()
        self._latest = training.snapshot()
        cost = self._clock() - started
        self._copy_cost = min(cost, self._copy_cost or cost)  # the first is slower
        self._copied += cost
        self.spent += cost
