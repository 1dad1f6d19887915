"""Trains one trial again, apart from any study: nothing is stored but its epochs and its model folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from search import store
from search.errors import JobError
from search.executors.devices import Slot
from search.executors.local import Died, LocalExecutor
from search.trial.spec import TrialSpec

TICK = 0.25  # seconds


@dataclass(frozen=True)
class Retrained:
    """What came of it: the metrics of each epoch, and the packaged model of the best one."""

    history: list[dict[str, float]]
    model: Path


def retrain(
    spec: TrialSpec,
    slot: Slot,
    backend: str,
    *,
    said: Callable[[int, dict[str, float]], None] = lambda epoch, metrics: None,
    stop_after: int | None = None,
) -> Retrained:
    """Train `spec` from the start in its own folder; `said` hears of each epoch.

    `stop_after` epochs it ends as a pruned trial does. Raises JobError where it fails or its worker dies.
    """
    history: list[dict[str, float]] = []
    store.write_spec(spec)
    with LocalExecutor((slot,), spec.path.parent, backend=backend) as executor:
        submitted = False
        while True:
            if not submitted and executor.free():
                executor.submit(slot, spec)
                submitted = True
            for where, number, message in executor.events(TICK):
                if isinstance(message, Died):
                    raise JobError(f"training again failed: {message}")
                if number != spec.number:
                    continue
                match message["event"]:
                    case "epoch":
                        history.append(message["metrics"])
                        said(message["epoch"], message["metrics"])
                        ends = stop_after is not None and len(history) >= stop_after
                        executor.answer(where, {"do": "prune" if ends else "go"})
                    case "trained":
                        executor.answer(where, {"package": True})
                    case "done":
                        return Retrained(history, spec.path / "model")
                    case "failed":
                        raise JobError(f"training again failed: {message['error']}")
