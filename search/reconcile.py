"""Makes the study store, the trial folders and MLflow agree again before a study goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from search import mirror, store
from search.engines import optuna as engine
from spaces import Space
from tracking.runs import Tracker

RUN_ID, MIRRORED, REASON = "mlflow.run_id", "mirrored", "reason"


def reconcile(
    study: optuna.Study,
    folder: Path,
    tracker: Tracker,
    space: Space,
    *,
    describe: Callable[[FrozenTrial, str], None],
    say: Callable[[str], None],
) -> list[FrozenTrial]:
    """Mirrors finished trials that MLflow has not wholly, and returns the unfinished ones, oldest first.

    `describe` sends again what a trial's run says of it beside its epochs.
    """
    unfinished, mended = [], 0
    mirrored = set(study.user_attrs.get(MIRRORED, ()))
    for trial in engine.counted(study.get_trials(deepcopy=False)):
        if not trial.state.is_finished():
            unfinished.append(trial)
        elif trial.number not in mirrored and RUN_ID in trial.user_attrs:
            run_id, mine = trial.user_attrs[RUN_ID], store.trial_folder(folder, trial.number)
            describe(trial, run_id)
            mirror.epochs(tracker, run_id, mine)
            ended = trial.datetime_complete
            mirror.end(
                tracker,
                run_id,
                mine,
                space,
                title=f"{study.study_name}, trial {trial.number}",
                state=trial.state,
                reason=trial.user_attrs.get(REASON, ""),
                end_time_ms=int(ended.timestamp() * 1000) if ended else None,
            )
            mended += 1
    if mended:
        say(f"brought {mended} finished trial{'s' if mended > 1 else ''} up to date in MLflow")
    return unfinished
