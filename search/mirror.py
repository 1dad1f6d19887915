"""What a trial's record means in MLflow: sent as it happens, and again, unchanged, after an outage or a kill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from optuna.trial import TrialState

from search import store
from search.trial.schedule import best_epoch
from spaces import Space
from tracking.figures import learning_curves
from tracking.runs import Tracker

STATUS = {
    TrialState.WAITING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
}


def epochs(tracker: Tracker, run_id: str, folder: Path) -> set[int]:
    """Log the epochs that events.jsonl has and MLflow has not, at their first times; returns what MLflow had."""
    there = tracker.logged_steps(run_id, "loss")
    for event in store.epochs(folder):
        if event["epoch"] not in there:
            tracker.log_epoch(run_id, event["epoch"], event["metrics"], int(event["time"] * 1000))
    return there


def paused(tracker: Tracker, run_id: str) -> None:
    """A trial waits to go on."""
    tracker.finish(run_id, "SCHEDULED", {"search.trial.state": "paused"})


def end(
    tracker: Tracker,
    run_id: str,
    folder: Path,
    space: Space,
    *,
    title: str,
    state: TrialState,
    reason: str,
    end_time_ms: int | None = None,
) -> None:
    """The end of a trial: its best epoch, its learning curves, its state. The same again changes nothing."""
    recorded = store.epochs(folder)
    tags = {"search.trial.state": state.name} | ({"search.trial.reason": reason} if reason else {})
    if recorded:
        history: Sequence[Mapping[str, Any]] = [event["metrics"] for event in recorded]
        best = best_epoch(history, space.metric, space.direction)
        tags["search.trial.best_epoch"] = str(best)
        tracker.log_bytes(run_id, "learning_curves.png", learning_curves(history, title))
        value = {f"best_{space.metric}": history[best][space.metric]}
        tracker.log_epoch(run_id, best, value, int(recorded[best]["time"] * 1000))
    tracker.finish(run_id, STATUS[state], tags, end_time_ms=end_time_ms)
