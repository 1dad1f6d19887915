"""Makes the study store, the trial folders and MLflow agree again before a study goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import store
from search.engines import optuna as engine

if TYPE_CHECKING:
    from tracking.runs import Tracker

RUN_ID, MIRRORED, REASON = "mlflow.run_id", "mirrored", "reason"

STATUS = {
    TrialState.WAITING: "SCHEDULED",
    TrialState.RUNNING: "RUNNING",
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "KILLED",
    TrialState.FAIL: "FAILED",
}


def reconcile(study: optuna.Study, folder: Path, tracker: Tracker, say: Callable[[str], None]) -> list[FrozenTrial]:
    """Mirrors finished trials that MLflow has not wholly, and returns the unfinished ones, oldest first."""
    unfinished, mended = [], 0
    mirrored = set(study.user_attrs.get(MIRRORED, ()))
    for trial in engine.counted(study.get_trials(deepcopy=False)):
        if not trial.state.is_finished():
            unfinished.append(trial)
        elif trial.number not in mirrored and RUN_ID in trial.user_attrs:
            _replay(trial, folder, tracker)
            mended += 1
    if mended:
        say(f"brought {mended} finished trial{'s' if mended > 1 else ''} up to date in MLflow")
    return unfinished


def _replay(trial: FrozenTrial, folder: Path, tracker: Tracker) -> None:
    run_id = trial.user_attrs[RUN_ID]
    replay_metrics(run_id, store.trial_folder(folder, trial.number), tracker)
    ended = trial.datetime_complete
    reason = trial.user_attrs.get(REASON)
    tags = {"search.trial.state": trial.state.name} | ({"search.trial.reason": reason} if reason else {})
    end_time = int(ended.timestamp() * 1000) if ended else None
    tracker.finish(run_id, STATUS[trial.state], tags, end_time_ms=end_time)


def replay_metrics(run_id: str, trial_folder: Path, tracker: Tracker) -> None:
    """Log the epochs that events.jsonl has and MLflow has not, at their first times."""
    recorded = store.epochs(trial_folder)
    there = tracker.logged_steps(run_id, "loss") if recorded else set()
    for event in recorded:
        if event["epoch"] not in there:
            tracker.log_epoch(run_id, event["epoch"], event["metrics"], int(event["time"] * 1000))
