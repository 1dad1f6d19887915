"""Replays recorded trainings on a simulated clock, any number of slots at once: an executor that trains nothing."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from search import clock, store
from search.executors.devices import Slot
from search.executors.died import Died
from search.executors.table import Curve, Table
from search.trial.schedule import best_epoch, stops_early
from search.trial.spec import TrialSpec
from spaces import Space

Event = tuple[Slot, int, dict[str, Any] | Died]
STARTED, EPOCH, TRAINED, DONE, STOPPED, KILLED = "started", "epoch", "trained", "done", "stopped", "killed"


@dataclass
class Replay:
    """A trial on a slot: what it says next and when; None while it waits for an answer.

    `trained` counts the epochs it has gone through, those of earlier attempts included; `at` is when the current one
    began.
    """

    slot: Slot
    spec: TrialSpec
    curve: Curve | None
    patience: int | None
    trained: int
    at: float
    due: float
    says: str | None = STARTED
    verdict: str = ""
    history: list[dict[str, float]] = field(default_factory=list)


class SimulateExecutor:
    """Trials that last as long as the `table` says, on a clock that moves from one thing that happens to the next.

    It keeps what LocalExecutor promises: `free`, `submit`, `answer`, `stop`, `kill`, `silent`, `events`, `close`. Use
    it as a context manager: inside, search.clock is simulated, and begins now or where the study's record ends,
    whichever is later. Costs are seconds of one core; a trial's start is among them, again where it goes on after a
    pause.
    """

    def __init__(self, slots: tuple[Slot, ...], folder: Path, table: Table, space: Space) -> None:
        self.slots, self.folder, self.table, self.space = slots, folder, table, space
        self._replays: dict[int, Replay] = {}
        self._time = contextlib.ExitStack()

    def __enter__(self) -> SimulateExecutor:
        recorded = (store.events(folder) for folder in store.trial_folders(self.folder).values())
        begin = max([time.time(), *(event["time"] for events in recorded for event in events[-1:])])
        self.clock = self._time.enter_context(clock.simulated(begin))
        return self

    def __exit__(self, *_: object) -> None:
        self._time.close()

    # ---- orders

    def free(self) -> list[Slot]:
        """The slots without a trial."""
        return [slot for slot in self.slots if slot.index not in self._replays]

    def submit(self, slot: Slot, spec: TrialSpec) -> None:
        """Start a trial on a free slot, or go on with it where `spec.recorded` epochs ended."""
        curve = self.table.curve(spec.config_hash, spec.seed)
        patience = self.space.recipe(spec.config).patience if spec.patience is None else spec.patience
        now = self.clock.time
        start = curve.start_cpu if curve else 0.0
        replay = Replay(slot, spec, curve, patience, spec.recorded, now + start, now + start)
        if curve is not None:
            replay.history = [curve.epoch(number) for number in range(min(spec.recorded, curve.epochs))]
        self._replays[slot.index] = replay

    def answer(self, slot: Slot, message: dict[str, Any]) -> None:
        """Answer what a trial asked: after an epoch whether it goes on, after its last whether to package its model."""
        replay = self._replays.get(slot.index)
        if replay is None or replay.says is not None:
            return
        if "package" in message:
            replay.says = DONE  # there is no model to package
        else:
            self._go_on(replay, str(message.get("do", "go")))

    def stop(self, slot: Slot, grace: float) -> None:
        """Have the trial of a slot end with its running epoch, or broken off after `grace` seconds."""
        replay = self._replays.get(slot.index)
        if replay is None or replay.says not in (STARTED, EPOCH):
            return
        if replay.due > self.clock.time + grace:
            replay.says, replay.due = STOPPED, self.clock.time + grace
        else:
            replay.verdict = "stop"

    def kill(self, slot: Slot) -> None:
        """End the trial of a slot now; `events` yields Died, told."""
        if replay := self._replays.get(slot.index):
            replay.says, replay.due = KILLED, self.clock.time

    def silent(self, slot: Slot) -> float:
        """Seconds without a sign of life: none, since nothing recorded hangs."""
        return 0.0

    # ---- hearing

    def events(self, timeout: float) -> Iterator[Event]:
        """What happens next, as (slot, trial number, message); the clock moves there. `timeout` is not waited for.

        A limit on time is therefore noticed when the next thing happens on any slot.
        """
        waiting = [r for r in self._replays.values() if r.says is not None]
        if not waiting:
            return
        replay = min(waiting, key=lambda r: (r.due, r.slot.index))
        self.clock.time = max(self.clock.time, replay.due)
        says, replay.says = replay.says, None
        yield replay.slot, replay.spec.number, self._message(replay, str(says))

    def _message(self, replay: Replay, says: str) -> dict[str, Any] | Died:
        curve, spec = replay.curve, replay.spec
        if says == KILLED:
            self._leave(replay)
            return Died(exit_code=-15, told=True)
        if says == STOPPED:
            return self._done(replay, {"state": "stopped", "epoch": replay.trained})
        if curve is None:
            self._leave(replay)
            return {"event": "failed", "reason": "error", "error": f"not in the table: {spec.config}"}
        if says == STARTED:
            self._go_on(replay, "prune" if replay.trained == spec.pruned_at else replay.verdict or "go")
            return {
                "event": "started",
                "epoch": replay.trained,
                "parameters": curve.parameters,
                "summary": f"simulated: recorded with seed {curve.seed}\n",
                "notes": [],
                "train": self.table.train_images,
                "validation": self.table.validation_images,
                "data_digest": self.table.split,
            }
        if says == EPOCH:
            return self._epoch(replay, curve)
        best = best_epoch(replay.history, spec.metric, spec.direction)
        ended = {
            "state": "pruned" if replay.verdict == "prune" else "complete",
            "best_epoch": best,
            "value": replay.history[best][spec.metric],
            "early": replay.verdict == "early",
        }
        return {"event": "trained", **ended} if says == TRAINED else self._done(replay, ended)

    def _epoch(self, replay: Replay, curve: Curve) -> dict[str, Any]:
        number = replay.trained
        if number >= curve.epochs:
            self._leave(replay)
            return {"event": "failed", "reason": "nan", "error": curve.failed or f"not recorded beyond epoch {number}"}
        replay.trained += 1
        replay.history.append(curve.epoch(number))
        took = curve.cpu[number]
        speed = {"seconds": took, "images_per_second": self.table.train_images / max(took, 1e-9)}
        return {"event": "epoch", "epoch": number, "metrics": replay.history[-1] | speed}

    def _go_on(self, replay: Replay, verdict: str) -> None:
        """What a trial does after it started or after an epoch, by what it was told."""
        if verdict not in ("prune", "stop") and replay.verdict == "stop":
            verdict = "stop"
        if verdict not in ("prune", "stop"):
            early = stops_early(replay.history, replay.patience)
            verdict = "early" if early else ("all" if replay.trained >= replay.spec.epochs else "go")
        replay.verdict = "" if verdict == "go" else verdict
        replay.at = self.clock.time
        if verdict == "go":
            cpu = replay.curve.cpu if replay.curve else ()
            replay.says = EPOCH
            replay.due = replay.at + (cpu[replay.trained] if replay.trained < len(cpu) else 0.0)
        else:
            replay.says = STOPPED if verdict == "stop" else TRAINED
            replay.due = replay.at

    def _done(self, replay: Replay, ended: dict[str, Any]) -> dict[str, Any]:
        self._leave(replay)
        return {"event": "done", **ended}

    def _leave(self, replay: Replay) -> None:
        replay.due = math.inf
        del self._replays[replay.slot.index]

    def close(self, *, kill: bool = False) -> None:
        """Nothing runs that would have to be ended."""
        self._replays.clear()
