"""Where a study's parts are in MLflow: the run of each trial, remembered in the study store."""

from __future__ import annotations

import optuna
from optuna.trial import FrozenTrial, Trial

RUN_ID, LATE, EXPERIMENT_ID = "mlflow.run_id", "mlflow.late_runs", "mlflow.experiment_id"


def run_id(study: optuna.Study, trial: FrozenTrial) -> str:
    """The MLflow run of a trial; empty where it has none yet."""
    late = study.user_attrs.get(LATE, {})
    return str(late.get(str(trial.number), trial.user_attrs.get(RUN_ID, "")))  # an empty one: it is to be made anew


def remember(study: optuna.Study, trial: FrozenTrial, made: str) -> None:
    """Note a trial's run: with the trial, or, where it ended before MLflow answered, with the study."""
    if trial.state.is_finished():
        study.set_user_attr(LATE, study.user_attrs.get(LATE, {}) | {str(trial.number): made})
    else:
        Trial(study, trial._trial_id).set_user_attr(RUN_ID, made)
