"""The instants at which a kill may fall: seen from outside, by looking at a study's folder every millisecond."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from search import store
from search.trial import checkpoints

# What a request does, as it stands in its path; most are sent from the outbox, the first two are waited for.
REQUESTS = (
    "runs/create",
    "runs/search",
    "runs/log-batch",
    "runs/update",
    "runs/log-inputs",
    "runs/outputs",
    "mlflow-artifacts",
    "mlflow/logged-models",
)
LOST = tuple(f"{what} lost: {request}" for what in ("request", "answer") for request in REQUESTS)
TRAINING = ("any time", "epoch line", "checkpoint write", "checkpoint whole", "attempt file", "model packaged")
EDGES = ("start-up", "worker starting", "trial told", "shut-down")
BY_VICTIM = {
    "coordinator": (*TRAINING, *EDGES, "study store made", *LOST),
    "both": (*TRAINING, *EDGES, *LOST[:4]),
    "worker": (*TRAINING, "worker starting", "trial told"),
    "server": (*TRAINING, "start-up", "shut-down", *LOST[-4:]),
    "server, then coordinator": (*TRAINING, "trial told", "shut-down"),
    "Ctrl-C": (*TRAINING, *EDGES),
    "Ctrl-C twice": (*TRAINING, *EDGES),
    "Ctrl-C, then worker": (*TRAINING,),
    "SIGTERM": (*TRAINING, "start-up", "shut-down"),
}
COUNTED = (*TRAINING[1:], "study store made", "worker starting", "trial told")
# Of fourteen kills so many each; the plain ones are the likely ones.
SHARES = {
    "coordinator": 4,
    "both": 2,
    "worker": 2,
    "server": 1,
    "server, then coordinator": 1,
    "Ctrl-C": 1,
    "Ctrl-C twice": 1,
    "Ctrl-C, then worker": 1,
    "SIGTERM": 1,
}


@dataclass(frozen=True)
class Aim:
    """Whom to kill, and when: `delay` seconds after `instant` came for the `nth` time from now."""

    victim: str
    instant: str
    nth: int
    delay: float

    def __str__(self) -> str:
        nth = f" {self.nth}" if self.nth > 1 else ""
        return f"{self.victim} at {self.instant}{nth}" + (f" + {self.delay:.3f} s" if self.delay else "")


class Deck:
    """Aims drawn by a seed such that every victim and every instant has its turn; `victims` are its shares."""

    def __init__(self, rng: random.Random, victims: dict[str, int]) -> None:
        self._rng = rng
        self._victims = _turns(rng, [name for name, share in victims.items() for _ in range(share)])
        self._instants = {name: _turns(rng, list(BY_VICTIM[name])) for name in victims}

    def draw(self, *, fresh: bool, begins: bool, left: int) -> Aim:
        """The next aim.

        `fresh` says that the study is not in its store yet, `begins` that the coordinator was started only now, `left`
        how many trials are not done.
        """
        victim = next(self._victims)
        instant = next(self._instants[victim])
        # Such instants come once in a study: out of turn where they can come, left out where they cannot.
        if fresh and victim == "coordinator" and self._rng.random() < 0.4:
            instant = self._rng.choice(["study store made", "answer lost: runs/create", "request lost: runs/create"])
        elif left <= 0 and begins:
            instant = "resumed when done"
        elif left <= 1 and "shut-down" in BY_VICTIM[victim] and self._rng.random() < 0.6:
            instant = "shut-down"
        out_of_turn = {"study store made": not fresh, "shut-down": left > 2}
        out_of_turn |= dict.fromkeys(("start-up", "worker starting"), not begins)
        while out_of_turn.get(instant):
            instant = next(self._instants[victim])
        return Aim(victim, instant, *self._moment(instant, begins))

    def _moment(self, instant: str, begins: bool) -> tuple[int, float]:
        rng = self._rng
        short = rng.choice([0.0, rng.uniform(0, 0.05)])
        match instant:
            case "start-up":
                return 1, rng.uniform(0, 6)
            case "worker starting":
                return 1, rng.uniform(0, 7)
            case "any time":
                return 1, rng.uniform(0, 20 if begins else 6)
            case "resumed when done":
                return 1, rng.uniform(0, 14)
            case "study store made":
                return 1, rng.uniform(0, 0.6)
            case "shut-down":
                return 1, rng.uniform(0, 2.5)
            case "model packaged":
                return rng.randint(1, 3), rng.choice([0.0, rng.uniform(0, 0.8)])
            case "epoch line":
                return rng.randint(1, 10), short
            case "checkpoint write":  # it takes a few milliseconds
                return rng.randint(1, 3), rng.choice([0.0, rng.uniform(0, 0.005)])
            case "attempt file" | "trial told" | "checkpoint whole":
                return rng.randint(1, 3), short
            case "answer lost: runs/create" | "request lost: runs/create":
                return rng.randint(1, 2), 0.0
        return rng.randint(1, 8), 0.0


def _turns(rng: random.Random, cards: list[str]) -> Iterator[str]:
    while True:
        rng.shuffle(cards)
        yield from list(cards)


@dataclass
class Watch:
    """Counts what happened in a study's folder; `look` takes about a tenth of a millisecond a trial."""

    folder: Path
    database: Path  # the study store
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0))
    _sizes: dict[str, int] = field(default_factory=dict)
    _seen: set[tuple[str, int]] = field(default_factory=set)

    def look(self) -> dict[str, int]:
        """How often each instant has come since this watch began, as far as its looks could see."""
        if self.database.exists() and self._once("store", 0):
            self.counts["study store made"] += 1
        for path, name, stat in _files(self.folder):
            if name.startswith("worker-") and self._once(path, stat.st_mtime_ns if stat.st_size == 0 else -1):
                self.counts["worker starting"] += stat.st_size == 0
            elif name.startswith("attempt-") and name.endswith(".json") and self._once(path, 0):
                self.counts["attempt file"] += 1
            elif name.startswith("checkpoint-") and name.endswith(".part") and self._once(path, stat.st_ino):
                self.counts["checkpoint write"] += 1
            elif checkpoints.NAME.fullmatch(name) and self._once(path, stat.st_mtime_ns):
                self.counts["checkpoint whole"] += 1
            elif name.startswith((".model-", "model")) and self._once(path, stat.st_ino):
                self.counts["model packaged"] += 1
            elif name == "events.jsonl" and stat.st_size > self._sizes.get(path, 0):
                self._read(path)
        return self.counts

    def _once(self, path: str, stamp: int) -> bool:
        new = (path, stamp) not in self._seen
        self._seen.add((path, stamp))
        return new

    def _read(self, path: str) -> None:
        with Path(path).open("rb") as file:
            file.seek(self._sizes.get(path, 0))
            new = file.read()
        self._sizes[path] = self._sizes.get(path, 0) + len(new)
        self.counts["epoch line"] += new.count(b'"event": "epoch"')
        self.counts["trial told"] += new.count(b'"event": "finished"')


def _files(folder: Path) -> Iterator[tuple[str, str, os.stat_result]]:
    try:
        found = list(os.scandir(folder))
        found += [file for entry in found if entry.name.startswith("trial-") for file in os.scandir(entry.path)]
    except OSError:
        return
    for entry in found:
        try:
            yield entry.path, entry.name, entry.stat()
        except OSError:  # gone since
            continue


def wait_for(came: Callable[[], bool], over: Callable[[], bool], limit: float) -> bool:
    """Look every millisecond until `came`; False where it is `over` before or `limit` seconds passed."""
    deadline = time.monotonic() + limit
    while not came():
        if over() or time.monotonic() > deadline:
            return False
        time.sleep(0.0005)
    return True


@dataclass(frozen=True)
class Behind:
    """A trial that must run epochs again: it has more `recorded` than its checkpoint `holds`."""

    trial: str
    recorded: int
    holds: int


def behind(folder: Path) -> list[Behind]:
    """The unfinished trials of a study whose last checkpoint is older than their last recorded epoch."""
    found = []
    for trial in sorted(folder.glob("trial-*")):
        events = store.events(trial)
        epochs = {event["epoch"] for event in events if event["event"] == "epoch"}
        holds = max(map(checkpoints.epochs_of, checkpoints.files(trial)), default=0)
        if not any(event["event"] == "finished" for event in events) and len(epochs) > holds:
            found.append(Behind(trial.name, len(epochs), holds))
    return found
