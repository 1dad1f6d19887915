"""What a worker is told of a trial, from the study's plan and the trial's attributes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.plan import Plan
from search.trial.spec import TrialSpec
from spaces import Space, declared, find

DATA_SEED = 0  # the split is the dataset's, the same for every study, so that studies can be compared
COLUMNS = 5  # hyperparameters that tables show of a space that names none


def trial_spec(
    plan: Plan,
    space: Space,
    number: int,
    attributes: Mapping[str, Any],
    *,
    folder: Path,
    data_folder: Path,
    attempt: int = 1,
    recorded: int = 0,
    rungs: tuple[int, ...] = (),
) -> TrialSpec:
    """The spec of an attempt at a trial whose files stand in `folder`; without `recorded` it begins at the start."""
    return TrialSpec(
        study=plan.study,
        number=number,
        attempt=attempt,
        space=plan.space,
        dataset=plan.dataset,
        config=attributes["config"],
        config_hash=attributes["config.hash"],
        checkpoint_hash=attributes.get("began.hash"),
        data_folder=str(data_folder),
        data_seed=DATA_SEED,
        train_limit=plan.train_limit,
        validation_limit=plan.validation_limit,
        epochs=attributes["epochs"],
        milestones=tuple(attributes.get("milestones", ())),
        patience=attributes.get("patience", 0 if "baseline" in attributes else None),
        seed=attributes["seed"],
        metric=space.metric,
        direction=space.direction,
        precision=plan.precision,
        folder=str(folder),
        recorded=recorded,
        rungs=rungs,
        merged=plan.merged,
    )


def space_of(plan: Plan) -> Space:
    """The space of a plan, over the dataset and with the objective that its trials really have. Raises SpaceError."""
    return _space(plan.space, plan.dataset, plan.merged)


def stored_space(plan: Mapping[str, Any]) -> Space:
    """The same of a plan as it is stored with its study. Raises SpaceError."""
    return _space(plan["space"], plan.get("dataset"), plan.get("merged", False))


def _space(name: str, dataset: str | None, merged: bool) -> Space:
    found = find(name, dataset)
    if not found.columns:
        with contextlib.suppress(Exception):  # a space that cannot draw is told of where it is checked
            found = replace(found, columns=tuple(declared(found))[:COLUMNS])
    # Without validation images there are no validation metrics.
    return replace(found, metric=found.metric.removeprefix("val_")) if merged else found
