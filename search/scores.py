"""What becomes of a trial's figures: written into its record, held against the limits, told to Optuna."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search import store
from search.goals import Goals
from search.ranking import BEST_EPOCH, FIGURES, TRAINED, Point, figures_of, front, value_of
from search.trial.schedule import best_epoch
from search.trial.spec import TrialSpec
from spaces import Space
from spaces.datasets import describe


class Scores:
    """Judges the trials of one study by its goals."""

    def __init__(self, goals: Goals, space: Space, study: optuna.Study) -> None:
        self.goals, self.space, self.study = goals, space, study
        self.data = describe(space.dataset)

    def report(self, trial: optuna.Trial, metrics: Mapping[str, float], epochs: int) -> None:
        """Note in the study store that a trial has trained `epochs`, with its value where an epoch has one.

        Optuna takes no reports where there are several objectives.
        """
        if self.goals.by_epoch:
            trial.report(metrics[self.goals.metric], epochs)
        else:
            trial.set_user_attr(TRAINED, epochs)

    def catch_up(self, trial: optuna.Trial, frozen: FrozenTrial, recorded: Sequence[Mapping[str, Any]]) -> None:
        """Note the epochs of a trial's record that were not noted: it was killed between writing one and reporting."""
        if not self.goals.by_epoch:
            if frozen.user_attrs.get(TRAINED, 0) != len(recorded):
                trial.set_user_attr(TRAINED, len(recorded))
            return
        for event in recorded:
            if event["epoch"] + 1 not in frozen.intermediate_values:
                self.report(trial, event["metrics"], event["epoch"] + 1)

    def trained(self, spec: TrialSpec, history: Sequence[Mapping[str, float]], message: Mapping[str, Any]) -> Point:
        """Where a trained trial stands; its figures are in its record before anything is decided by them.

        Those of an earlier attempt, which was killed after it had measured them, stay.
        """
        if self.goals.plain or message["state"] != "complete":
            return Point(spec.number, (message["value"],))
        found = store.measured(spec.path)
        if found is None:
            known = self.goals.known(self.space, spec.config, self.data)
            found = self.goals.figures(history, known, message.get("figures", {}))
            best = best_epoch(history, self.goals.metric, self.goals.direction)
            store.append(spec.path, {"event": "measured", "figures": found, "best_epoch": best})
        return Point(spec.number, tuple(self.goals.values(found)), not self.goals.broken(found))

    def values(self, folder: Path, value: float) -> list[float]:
        """What Optuna is told of a complete trial: its figures, or the `value` of its best epoch."""
        return [value] if self.goals.plain else self.goals.values(store.measured(folder) or {})

    def unusable(self, folder: Path, value: float) -> str:
        """Which objective of a complete trial is no number, in words; empty where all are."""
        values = zip(self.goals.objectives, self.values(folder, value), strict=True)
        return ", ".join(f"{objective.name} is {value}" for objective, value in values if math.isnan(value))

    def over(self, folder: Path) -> str:
        """Which limits a complete trial broke, in words; empty where none."""
        return "" if self.goals.plain else self.goals.over(store.measured(folder) or {})

    def best_of(self, trial: FrozenTrial) -> float | None:
        """The metric of a trial's best epoch, or its value where the epochs' is the one objective."""
        if self.goals.by_epoch:
            return value_of(trial, self.study)
        return figures_of(trial).get(self.goals.metric)

    def leading(self) -> frozenset[int]:
        """The trials on the front; none where there is one objective."""
        return frozenset(t.number for t in front(self.study)) if self.goals.several else frozenset()

    def tell(self, trial: optuna.Trial, folder: Path, value: float) -> None:
        """Close a complete trial in the study store, with all it is judged by."""
        if not self.goals.plain:
            event = store.measurement(folder) or {}
            trial.set_user_attr(FIGURES, event["figures"])
            trial.set_user_attr(BEST_EPOCH, event["best_epoch"])
            for key, violation in self.goals.constraints(event["figures"]).items():
                if key not in trial.constraints:  # told before, by a coordinator killed in between
                    trial.set_constraint(key, violation)
        self.study.tell(trial, self.values(folder, value))
