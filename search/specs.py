"""What a worker is told of a trial, from the study's plan and the trial's attributes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from search.goals import Goals, read_goals
from search.objectives import Direction, Objective
from search.plan import Plan
from search.trial.spec import TrialSpec
from spaces import Space, declared, find
from spaces.errors import SpaceError

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
        measures=() if not (plan.objectives or plan.limits) else goals_of(plan, space).names,
    )


def space_of(plan: Plan) -> Space:
    """The space of a plan, over the dataset and with the objective that its trials really have. Raises SpaceError."""
    return _space(plan.space, plan.dataset, plan.merged, plan.objectives)


def stored_space(plan: Mapping[str, Any]) -> Space:
    """The same of a plan as it is stored with its study. Raises SpaceError."""
    return _space(plan["space"], plan.get("dataset"), plan.get("merged", False), plan.get("objectives", ()))


def goals_of(plan: Plan, space: Space) -> Goals:
    """What the trials of a plan are judged by; `space` is that of `space_of`."""
    return read_goals(plan.objectives, plan.limits, Objective(space.metric, space.direction), merged=plan.merged)


def stored_goals(plan: Mapping[str, Any], direction: Direction) -> Goals:
    """The same of a plan as it is stored with its study, whose first objective has this direction.

    Where the space is gone and the plan names no metric it is called `value`.
    """
    own = Objective("value", direction)
    with contextlib.suppress(SpaceError, KeyError):  # the latter where there is no plan either
        space = stored_space(plan)
        own = Objective(space.metric, space.direction)
    return read_goals(plan.get("objectives", ()), plan.get("limits", ()), own, merged=plan.get("merged", False))


def _space(name: str, dataset: str | None, merged: bool, objectives: Sequence[str]) -> Space:
    found = find(name, dataset)
    if not found.columns:
        with contextlib.suppress(Exception):  # a space that cannot draw is told of where it is checked
            found = replace(found, columns=tuple(declared(found))[:COLUMNS])
    goals = read_goals(objectives, (), Objective(found.metric, found.direction), merged=merged)
    return replace(found, metric=goals.metric, direction=goals.direction)
