"""What of earlier studies a new one can learn from: which trials fit, and whether their results can be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import report, versions
from search.engines import keras_tuner, menu
from search.engines import optuna as engine
from search.errors import InputError
from search.fits import Misfit, fit, parameters, reasons
from search.goals import Goals
from search.plan import Plan, noted_data
from search.settings import Settings
from search.shown import goals_of as goals_of_study
from search.specs import goals_of, stored_space
from search.trial.spec import KNOWN
from spaces import Space, config_hash
from spaces.datasets import describe
from spaces.errors import SpaceError

MEMORY = "memory"  # the constraint of a trial that ran out of it
FIRST = 3  # of a study that cannot be compared
BLIND = ("random", "qmc", "grid", "brute", "cmaes", "nsga2", "nsga3")  # samplers that look at none of others' results


def take(plan: Plan, space: Space, settings: Settings) -> dict[str, Any]:
    """What the plan's study learns from, as JSON, with a line for people about each earlier study.

    Raises InputError with every earlier study that is not there or cannot be learnt from.
    """
    problems: list[str] = []
    found = []
    for name in plan.warm_start:
        try:
            found.append(_Source(name, plan, space, settings).taken())
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    lines = [line for each in found for line in each["lines"]]
    lessons = [lesson for each in found for lesson in each["lessons"]]
    sampler = menu.read("sampler", plan.sampler).name
    if lessons and sampler.startswith(keras_tuner.PREFIX):
        lines.append(f"sampler {sampler} knows its own trials alone: nothing is learnt from these")
    elif lessons and sampler in BLIND:
        lines.append(f"sampler {sampler} looks at no results of others: it only knows what not to propose again")
    return {"lines": lines, "lessons": lessons, "first": [each for one in found for each in one["first"]]}


@dataclass(frozen=True)
class _Source:
    """An earlier study, to be learnt from."""

    name: str
    plan: Plan
    space: Space
    settings: Settings

    def taken(self) -> dict[str, Any]:
        """Its lessons, its best to run first, and what to say of it. Raises InputError."""
        if self.name == self.plan.study:
            raise InputError(f"--warm-start {self.name}: a study learns from its own trials anyway; name another")
        try:
            study = report.load(self.name, self.settings)
        except InputError as error:
            raise InputError([f"--warm-start {self.name}: {problem}" for problem in error.problems]) from None
        self._check(study)
        unlike = self._unlike(study.user_attrs["plan"])
        trials = [versions.thawed(t) for t in study.get_trials(deepcopy=False)]
        trials = engine.counted(trials)
        if not unlike:
            return self._lessons(trials)
        return self._first(study, trials, unlike)

    def _check(self, study: optuna.Study) -> None:
        attributes = study.user_attrs
        stored, said = attributes["plan"], f"--warm-start {self.name}"
        try:
            theirs: Space | None = stored_space(stored)
        except SpaceError:
            theirs = None  # its file is gone
        found: list[tuple[str, str]] = [(o.name, o.direction) for o in goals_of_study(study).objectives]
        if not stored.get("objectives") and (metric := versions.noted(attributes)[-1].get("metric")):
            found = [(metric, study.directions[0].name.lower())]
        wanted: list[tuple[str, str]] = [(o.name, o.direction) for o in self.goals.objectives]
        digest = noted_data(attributes) or (describe(theirs.dataset).digest if theirs else None)
        problems = []
        if found != wanted:
            problems.append(
                f"{said}: it was to {_to(found)}, this study is to {_to(wanted)}; name a study with the same objective"
            )
        if digest is None:
            problems.append(f"{said}: an earlier version made it and its space is gone; its images are unknown")
        elif digest != describe(self.space.dataset).digest:
            on = theirs.dataset if theirs else "other images"
            problems.append(
                f"{said}: it was searched on {on} (digest {digest[:12]}), this study on {self.space.dataset} "
                f"({describe(self.space.dataset).digest[:12]}); name a study on the same images"
            )
        if problems:
            raise InputError(problems)

    @property
    def goals(self) -> Goals:
        """What the new study is judged by."""
        return goals_of(self.plan, self.space)

    def _unlike(self, stored: Mapping[str, Any]) -> list[str]:
        """In what its trainings differ from this study's, so that results cannot be compared."""
        words = {"epochs": "epochs", "train_limit": "training images", "validation_limit": "validation images"}
        pairs = [(words[name], stored.get(name), getattr(self.plan, name)) for name in words]
        unlike = [f"{'all' if old is None else f'{old:,}'} {what} ({'all' if new is None else f'{new:,}'} here)"
                  for what, old, new in pairs if old != new]  # fmt: skip
        if bool(stored.get("merged")) != self.plan.merged:
            unlike.append("validation images among the training images")
        if stored.get("table_digest") != self.plan.table_digest:
            unlike.append("another table of recorded trainings, or none")
        theirs = set(stored.get("limits", ()))
        new = [str(limit) for limit in self.goals.limits if str(limit) not in theirs and limit.name not in KNOWN]
        return unlike + ([f"without the limit {', '.join(new)}"] if new else [])

    def _lessons(self, trials: Sequence[FrozenTrial]) -> dict[str, Any]:
        """The finished trials that fit, with their values; failed ones say nothing to a sampler."""
        lessons: list[dict[str, Any]] = []
        out: Counter[str] = Counter()
        notes: Counter[str] = Counter()
        for trial in trials:
            if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
                out["failed" if trial.state.is_finished() else "unfinished"] += 1
                continue
            try:
                found, config = self._fit(trial)
            except Misfit as why:
                out[str(why)] += 1
                continue
            for name in found["assumed"]:
                notes[f"{name} was not there and is taken to be {found['assumed'][name]}"] += 1
            for name in found["aside"]:
                notes[f"{name} is not in this space and is left aside"] += 1
            lessons.append(found | self._results(trial, config))
        left = f" ({sum(out.values())} left out: {reasons(out)})" if out else ""
        line = f"learns from study {self.name}: {len(lessons)} of {len(trials)} trials fit{left}"
        return {"lines": [line + (f"; {reasons(notes)}" if notes else "")], "lessons": lessons, "first": []}

    def _first(self, study: optuna.Study, trials: Sequence[FrozenTrial], unlike: Sequence[str]) -> dict[str, Any]:
        """The configurations of its best complete trials that fit."""
        sign = -1 if study.directions[0] == optuna.study.StudyDirection.MAXIMIZE else 1
        complete = [t for t in trials if t.state == TrialState.COMPLETE and t.values]
        first = []
        for trial in sorted(complete, key=lambda t: (sign * (t.values or [0.0])[0], t.number)):
            try:
                first.append(self._fit(trial)[0])
            except Misfit:
                continue
            if len(first) == FIRST:
                break
        numbers = ", ".join(each["from"].rpartition(":")[2] for each in first)
        takes = f"its best that fit run first, by themselves: trials {numbers}" if first else "none of its trials fits"
        line = f"study {self.name} trained on {', '.join(unlike)}: its results cannot be compared; {takes}"
        return {"lines": [line], "lessons": [], "first": first}

    def _fit(self, trial: FrozenTrial) -> tuple[dict[str, Any], dict[str, Any]]:
        """A trial in this space's terms, as JSON, and its configuration there. Raises Misfit."""
        attributes = trial.user_attrs
        found = fit(self.space, versions.values(trial), self.plan.narrowings)
        counted = found.assumed and "parameters" in attributes
        if counted and parameters(self.space, found.config) != attributes["parameters"]:
            raise Misfit(f"with defaults for {', '.join(found.assumed)} it would be another network")
        told = {
            "from": f"{self.name}:{trial.number}",
            "values": found.values,
            "assumed": found.assumed,
            "aside": found.aside,
            "same": not found.assumed and not found.aside and config_hash(found.config) == attributes["config.hash"],
        }
        return told, found.config

    def _results(self, trial: FrozenTrial, config: dict[str, Any]) -> dict[str, Any]:
        """What became of a trial: its values, and how far it broke the new study's limits."""
        known = self.goals.known(self.space, config, describe(self.space.dataset))
        limits = {str(limit) for limit in self.goals.limits}
        theirs = {name: v for name, v in trial.constraints.items() if name in limits or name == MEMORY}
        return {
            "state": trial.state.name,
            "results": trial.values,
            "epochs": {str(step): value for step, value in trial.intermediate_values.items()},
            "constraints": theirs | (self.goals.constraints(known) if trial.state == TrialState.COMPLETE else {}),
        }


def _to(objectives: Sequence[tuple[str, str]]) -> str:
    return " and ".join(f"{direction} {name}" for name, direction in objectives)
