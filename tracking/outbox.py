"""Sends what is to be remembered from one background thread: in order, batched, through any outage of the server."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tracking.batch import Batch
from tracking.faults import Fault, fault_of, one_line
from tracking.values import Point

Send = Callable[[str, Batch], None]
Job = Callable[[], None]

FIRST_DELAY, LAST_DELAY = 0.5, 15.0  # seconds between two tries
SICK_TRIES = 8  # about 45 s
SICK_IN_A_ROW = 3  # failures of whatever kind of entry, after which the store is no better than one that is silent
MAX_ENTRIES, MAX_BYTES = 200_000, 256 * 2**20  # what may wait in memory
MAX_FAILURES = 1000  # lines kept


@dataclass
class Entry:
    """One thing to send; `alone` keeps a batch from being merged while the bad part of a merged one is looked for."""

    work: Batch | Job
    what: str
    size: int  # bytes
    alone: bool = False
    tries: int = 0


class Outbox:
    """A first-in first-out queue per lane (a run, or a model), and the one thread that empties them.

    `send(run_id, batch)` logs a batch. It and every job may be called again after a failure, so they must be
    repeatable. While the store is away, or fails whatever is sent, everything waits; an entry that is refused for good
    is dropped, gets a line in `failures` and holds up nothing else. The thread is no daemon, so nothing is torn off in
    the middle of a request; where nobody closes the outbox, it ends after the main thread once all is sent, or at the
    first failure.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._lanes: dict[str, deque[Entry]] = {}
        self._held: dict[str, float] = {}  # monotonic time before which a sick lane is left alone
        self._state = threading.Condition()
        self._bytes = 0
        self._pending = 0
        self._lost = 0
        self._away_until = 0.0
        self._away_tries = 0
        self._sick_in_a_row = 0
        self._sick_lanes: set[str] = set()  # since something was sent
        self._closed = False
        self.failures: list[str] = []
        self.waiting_since: float | None = None
        """When the store went away, in seconds since 1970; None while it answers."""
        self._thread = threading.Thread(target=self._run, name="mlflow-outbox", daemon=False)
        self._thread.start()

    @property
    def pending(self) -> int:
        """Entries not sent yet."""
        return self._pending

    @property
    def silent(self) -> bool:
        """Whether the store does not answer, or has had nothing but errors of its own to say of late."""
        return self.waiting_since is not None or self._sick_in_a_row >= SICK_IN_A_ROW

    def _fails_everywhere(self) -> bool:
        """Whether it is the store that is sick, and not what one lane sends."""
        return self._sick_in_a_row >= SICK_IN_A_ROW and len(self._sick_lanes) > 1

    # ---- called by the coordinator; none of these touches the network

    def put(self, lane: str, job: Job, *, what: str, size: int = 0) -> None:
        """Queue `job` behind everything in `lane`; `what` names it in a failure, `size` is what it holds, in bytes."""
        self._add(lane, [Entry(job, what, size)])

    def put_batch(
        self,
        run_id: str,
        *,
        metrics: Iterable[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Queue metrics, parameters and tags of a run; neighbours in its queue share a request."""
        whole = Batch.of(metrics, params or {}, tags or {})
        self._add(run_id, [Entry(part, str(part), part.size) for part in whole.within_limits()])

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all is sent, at most `timeout` seconds; False if something is left or was given up."""
        with self._state:
            self._away_until = 0.0  # try at once: the caller is waiting
            self._state.notify_all()
            return self._state.wait_for(lambda: self._pending == 0, timeout) and not self._lost

    def settle(self, away: float, at_most: float) -> bool:
        """Like `flush(at_most)`, but waits no longer than `away` seconds for a store that does not answer."""
        with self._state:
            self._away_until = 0.0
            self._state.notify_all()
            begun = time.monotonic()
            while self._pending:
                gone = time.monotonic() - begun
                absent = self.waiting_since is not None or self._fails_everywhere()
                if gone > at_most or (absent and gone > away):
                    return False
                self._state.wait(0.5)
            return not self._lost

    def close(self, timeout: float | None = None) -> int:
        """Flush for at most `timeout` seconds, then end the thread; returns how many entries MLflow never got."""
        self.flush(timeout)
        with self._state:
            self._closed = True
            self._state.notify_all()
            left = self._pending + self._lost
        self._thread.join(0.0 if left else 5.0)  # with something left it may sit in a request that nobody answers
        return left

    def _add(self, lane: str, entries: list[Entry]) -> None:
        with self._state:
            for entry in entries:
                if self._closed:
                    self._lose(lane, entry, "it came after the end")
                elif self._pending >= MAX_ENTRIES or self._bytes + entry.size > MAX_BYTES:
                    self._lose(lane, entry, "too much is waiting for the server")
                else:
                    self._lanes.setdefault(lane, deque()).append(entry)
                    self._pending += 1
                    self._bytes += entry.size
            self._state.notify_all()

    # ---- the thread

    def _run(self) -> None:
        while True:
            with self._state:
                lane = self._next()
                if lane is None:
                    return
                entries = _together(self._lanes[lane])
            try:
                self._do(lane, entries)
            except Exception as error:  # a job may raise anything; the thread must outlive it
                self._failed(lane, entries, error)
            else:
                self._sent(lane, entries)

    def _next(self) -> str | None:
        """Wait for a lane that may be worked on; None when it is time to end."""
        while not self._closed:
            now = time.monotonic()
            ready = next((name for name in self._lanes if self._held.get(name, 0.0) <= now), None)
            if ready is not None and self._away_until <= now:
                return ready
            if not threading.main_thread().is_alive() and (not self._lanes or self._away_tries or self._held):
                return None
            until = min([t for t in (self._away_until, *self._held.values()) if t > now], default=now + 1.0)
            self._state.wait(min(until - now, 1.0) if self._lanes else 1.0)
        return None

    def _do(self, lane: str, entries: list[Entry]) -> None:
        first = entries[0].work
        if not isinstance(first, Batch):
            return first()
        merged = Batch()
        for entry in entries:
            assert isinstance(entry.work, Batch)
            merged.add(entry.work)
        self._send(lane, merged)

    def _sent(self, lane: str, entries: list[Entry]) -> None:
        with self._state:
            self._back()
            self._sick_in_a_row = 0
            self._sick_lanes.clear()
            self._remove(lane, len(entries))

    def _failed(self, lane: str, entries: list[Entry], error: Exception) -> None:
        fault = fault_of(error)
        with self._state:
            if fault is Fault.AWAY:
                self.waiting_since = self.waiting_since or time.time()
                self._away_until = time.monotonic() + _delay(self._away_tries)
                self._away_tries += 1
                return
            self._back()
            first = entries[0]
            first.tries += 1
            if fault is Fault.SICK:
                self._sick_in_a_row += 1
                self._sick_lanes.add(lane)
            if fault is Fault.SICK and (first.tries < SICK_TRIES or self._fails_everywhere()):
                self._held[lane] = time.monotonic() + _delay(first.tries - 1)
            elif len(entries) > 1:
                for entry in entries:
                    entry.alone, entry.tries = True, 0
            elif isinstance(first.work, Batch) and len(first.work) > 1:
                self._split(lane, first.work)
            else:
                self._remove(lane, 1)
                if fault is Fault.SICK:
                    self._lost += 1
                self._note(lane, first, one_line(error))

    def _back(self) -> None:
        """The store answered, if only with a refusal."""
        self.waiting_since, self._away_tries = None, 0

    def _split(self, lane: str, batch: Batch) -> None:
        halves = [Entry(half, str(half), half.size, alone=True) for half in batch.halves()]
        self._lanes[lane].popleft()
        self._lanes[lane].extendleft(reversed(halves))
        self._pending += 1

    def _remove(self, lane: str, count: int) -> None:
        """Take sent entries off; the lane goes to the back, so that one busy run does not starve the others."""
        queue = self._lanes.pop(lane)
        for _ in range(count):
            self._bytes -= queue.popleft().size
        self._held.pop(lane, None)
        if queue:
            self._lanes[lane] = queue
        self._pending -= count
        self._state.notify_all()

    def _lose(self, lane: str, entry: Entry, why: str) -> None:
        self._lost += 1
        self._note(lane, entry, why)

    def _note(self, lane: str, entry: Entry, why: str) -> None:
        if len(self.failures) < MAX_FAILURES:
            self.failures.append(f"{lane}: {entry.what}: {why}")


def _together(queue: deque[Entry]) -> list[Entry]:
    """The entries at the head of a queue that one request can take."""
    first = queue[0]
    if first.alone or not isinstance(first.work, Batch):
        return [first]
    merged = Batch()
    taken: list[Entry] = []
    for entry in queue:
        if entry.alone or not isinstance(entry.work, Batch) or (taken and not merged.takes(entry.work)):
            break
        merged.add(entry.work)
        taken.append(entry)
    return taken


def _delay(tries: int) -> float:
    return float(min(FIRST_DELAY * 2 ** min(tries, 16), LAST_DELAY))
