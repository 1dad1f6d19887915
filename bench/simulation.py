"""Searches in memory on a simulated clock over a recorded table: what drives every method, peers and ours alike."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from search.executors.table import Curve, Table
from spaces import config_hash
from spaces._space import Config

Verdict = Literal["go", "stop", "pause"]
Ending = Literal["complete", "stopped", "paused", "failed"]
METRIC = "val_accuracy"


@dataclass(frozen=True)
class Ask:
    """Train the trial `id` with `config` until it has `epochs` in all; one that was paused goes on where it was."""

    id: Hashable
    config: Config
    epochs: int


class Method(Protocol):
    """A way of searching. Values are to be made large; epochs count from 1."""

    def suggest(self) -> Ask | Literal["wait", "done"]:
        """What a free slot does next: `wait` until another trial has ended, `done` where nothing will come."""
        ...

    def report(self, trial: Hashable, epoch: int, value: float) -> Verdict:
        """A trial has trained an epoch, before its last too; does it go on?"""
        ...

    def ended(self, trial: Hashable, how: Ending) -> None:
        """A trial has left its slot."""
        ...


@dataclass(frozen=True)
class Step:
    """From `time` on (seconds of the simulated clock) the model in hand is worth `value`; it was `seen` as that."""

    time: float
    value: float
    seen: float


@dataclass
class Outcome:
    """What a search found and when; `trials` were begun, `epochs` trained, in `time`."""

    steps: list[Step] = field(default_factory=list)
    trials: int = 0
    epochs: int = 0
    time: float = 0.0
    asked: list[tuple[str, int]] = field(default_factory=list)  # configurations' hashes and their epochs, in order


@dataclass
class _Running:
    """A trial on a slot, whose next epoch ends at `due`."""

    ask: Ask
    curve: Curve
    hash: str
    epoch: int
    due: float


class Truth:
    """What each configuration of a table is worth after each epoch: its best val_accuracy until then, over its seeds.

    `best` is what the best configuration is worth in the end, `full` what a training to its end costs on average, in
    seconds of a core, its start included.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self._values = {name: _worth(group, table.epochs) for name, group in table.curves.items()}
        self.best = max(values[-1] for values in self._values.values())
        self.full = float(np.mean([curve.cost() for curve in table.everything() if not curve.failed]))

    def value(self, name: str, epoch: int) -> float:
        """Of the configuration of this hash after `epoch` epochs."""
        return float(self._values[name][epoch - 1])


def one_training_each(table: Table) -> Table:
    """The table with the first recorded seed of each configuration only, so that all are valued alike.

    Where some have several seeds and the others one, the worth of the others is what a search sees of them, luck and
    all, while that of the some is a mean: whoever saw one of those at its luckiest would be charged for having found
    the highest value there is.
    """
    return replace(table, curves={name: group[:1] for name, group in table.curves.items()})


def _worth(group: tuple[Curve, ...], epochs: int) -> np.ndarray:
    """(epochs,) the running best of each curve, averaged; a curve that broke off keeps what it had."""
    rows = np.zeros((len(group), epochs))
    for row, curve in zip(rows, group, strict=True):
        values = np.array(curve.metrics[METRIC])
        if len(values):
            row[: len(values)] = np.maximum.accumulate(values)
            row[len(values) :] = row[len(values) - 1]
    return rows.mean(axis=0)


def simulate(truth: Truth, method: Method, *, slots: int, seconds: float, seed: int) -> Outcome:
    """Let a method search for so many seconds of the simulated clock on `slots` at once.

    An epoch takes what it took when it was recorded, in seconds of a core; starting and going on cost a start. `seed`
    chooses among the recorded seeds of a configuration; a trial keeps its own. Raises ValueError where the method
    asks for what the table does not have.
    """
    table, outcome = truth.table, Outcome()
    running: dict[int, _Running] = {}
    trained: dict[Hashable, int] = {}
    chance = np.random.default_rng(seed)
    seeds: dict[Hashable, int] = {}
    now, best, done = 0.0, -math.inf, False
    while True:
        for slot in range(slots):
            while slot not in running and not done:
                ask = method.suggest()
                if ask == "wait":
                    break
                if ask == "done":
                    done = True
                    break
                if ask.id not in seeds:
                    seeds[ask.id] = int(chance.integers(2**31))
                    outcome.trials += 1
                name = config_hash(ask.config)
                curve = table.curve(name, seeds[ask.id])
                if curve is None:
                    raise ValueError(f"not in the table: {ask.config}")
                outcome.asked.append((name, ask.epochs))
                epoch = trained.get(ask.id, 0)
                running[slot] = _Running(ask, curve, name, epoch, now + curve.start_cpu + _took(curve, epoch))
        if not running:
            break
        slot = min(running, key=lambda s: (running[s].due, s))
        trial = running[slot]
        now = trial.due
        if now > seconds:
            now = seconds
            break
        if trial.epoch >= trial.curve.epochs:  # the epoch in which it broke off
            del running[slot]
            method.ended(trial.ask.id, "failed")
            continue
        value = trial.curve.metrics[METRIC][trial.epoch]
        trial.epoch += 1
        trained[trial.ask.id] = trial.epoch
        outcome.epochs += 1
        if value > best:
            best = value
            outcome.steps.append(Step(now, truth.value(trial.hash, trial.epoch), value))
        verdict = method.report(trial.ask.id, trial.epoch, value)
        if verdict == "go" and trial.epoch < trial.ask.epochs:
            trial.due = now + _took(trial.curve, trial.epoch)
            continue
        del running[slot]
        how: Ending = "stopped" if verdict == "stop" else ("paused" if verdict == "pause" else "complete")
        method.ended(trial.ask.id, how)
    outcome.time = now
    return outcome


def _took(curve: Curve, epoch: int) -> float:
    """What the epoch after `epoch` epochs cost; the last measured where none was."""
    return curve.cpu[min(epoch, len(curve.cpu) - 1)]
