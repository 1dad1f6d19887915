"""What a study learns from earlier ones (`run --warm-start STUDY`), written down before its first trial.

Results that can be compared (same images and epochs, same objective) teach the sampler as if they were its own; they
are no trials of the new study, count for nothing and get no run. A configuration that is known from there exactly is
not proposed again. Where images or epochs differ, results say which configurations are good and not how good: the best
few run first, and their values are left out. Another dataset or another objective is refused.

`warm.json` in the study's folder holds it, in the words of hyperparameters and not of Optuna, so that it outlives the
earlier studies and fits newer versions of the space.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import report, store, versions
from search.engines import optuna as engine
from search.engines.known import known
from search.errors import InputError, SearchError
from search.fits import Misfit, fit, reasons
from search.plan import Plan, noted_data
from search.settings import Settings
from search.specs import stored_space
from search.versions import ASIDE
from spaces import Space, config_hash
from spaces.datasets import describe
from spaces.errors import SpaceError

WARM, FILE = "warm", "warm.json"  # the attribute of the study, with the file's digest, and the file
FROM = "warm.from"  # of a trial that runs first because it was good elsewhere: STUDY:NUMBER
FIRST = 3  # of a study that cannot be compared
BLIND = ("random", "qmc", "grid", "brute", "kt-random", "kt-grid")  # samplers that look at no results


@dataclass(frozen=True)
class Warm:
    """What a study begins with: trials of others to learn from, and (where it is from, what it is) to run first."""

    lessons: tuple[FrozenTrial, ...] = ()
    first: tuple[tuple[str, engine.Proposal], ...] = ()


NOTHING = Warm()

# ---- taking


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
    if lessons and plan.sampler in BLIND:
        lines.append(f"sampler {plan.sampler} looks at no results: from these it only knows what not to propose again")
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
        metric = versions.noted(attributes)[-1].get("metric") or (theirs.metric if theirs else None)
        digest = noted_data(attributes) or (describe(theirs.dataset).digest if theirs else None)
        problems = []
        direction = study.directions[0].name.lower()
        if metric is None or digest is None:
            problems.append(f"{said}: an earlier version made it and its space is gone; what it measured is unknown")
        elif (metric, direction) != (self.space.metric, self.space.direction):
            problems.append(
                f"{said}: it was to {direction} {metric}, this study is to {self.space.direction} {self.space.metric}; "
                "name a study with the same objective"
            )
        if digest is not None and digest != describe(self.space.dataset).digest:
            on = theirs.dataset if theirs else "other images"
            problems.append(
                f"{said}: it was searched on {on} (digest {digest[:12]}), this study on {self.space.dataset} "
                f"({describe(self.space.dataset).digest[:12]}); name a study on the same images"
            )
        if problems:
            raise InputError(problems)

    def _unlike(self, stored: Mapping[str, Any]) -> list[str]:
        """In what its trainings differ from this study's, so that results cannot be compared."""
        words = {"epochs": "epochs", "train_limit": "training images", "validation_limit": "validation images"}
        pairs = [(words[name], stored.get(name), getattr(self.plan, name)) for name in words]
        unlike = [f"{'all' if old is None else f'{old:,}'} {what} ({'all' if new is None else f'{new:,}'} here)"
                  for what, old, new in pairs if old != new]  # fmt: skip
        if bool(stored.get("merged")) != self.plan.merged:
            unlike.append("validation images among the training images")
        return unlike

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
                found = self._fit(trial)
            except Misfit as why:
                out[str(why)] += 1
                continue
            for name in found["assumed"]:
                notes[f"{name} was not there and is taken to be {found['assumed'][name]}"] += 1
            for name in found["aside"]:
                notes[f"{name} is not in this space and is left aside"] += 1
            lessons.append(found | _results(trial))
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
                first.append(self._fit(trial))
            except Misfit:
                continue
            if len(first) == FIRST:
                break
        numbers = ", ".join(each["from"].rpartition(":")[2] for each in first)
        takes = f"its best that fit run first, by themselves: trials {numbers}" if first else "none of its trials fits"
        line = f"study {self.name} trained on {', '.join(unlike)}: its results cannot be compared; {takes}"
        return {"lines": [line], "lessons": [], "first": first}

    def _fit(self, trial: FrozenTrial) -> dict[str, Any]:
        """A trial in this space's terms, as JSON. Raises Misfit."""
        attributes = trial.user_attrs
        values = {name: value for name, value in trial.params.items() if "#" not in name}
        values |= attributes.get(ASIDE, {}) | attributes["config"]
        found = fit(self.space, values, self.plan.narrowings)
        if found.assumed and "parameters" in attributes:
            try:
                count = self.space.params(found.config, describe(self.space.dataset))
            except Exception as error:  # whatever a space's own code raises
                raise Misfit(f"the space fails on it ({type(error).__name__})") from error
            if count != attributes["parameters"]:
                raise Misfit(f"with defaults for {', '.join(found.assumed)} it would be another network")
        return {
            "from": f"{self.name}:{trial.number}",
            "values": found.values,
            "assumed": found.assumed,
            "aside": found.aside,
            "same": not found.assumed and not found.aside and config_hash(found.config) == attributes["config.hash"],
        }


def _results(trial: FrozenTrial) -> dict[str, Any]:
    return {
        "state": trial.state.name,
        "results": trial.values,
        "epochs": {str(step): value for step, value in trial.intermediate_values.items()},
        "constraints": dict(trial.constraints),
    }


# ---- writing down and reading


def digest(found: Mapping[str, Any]) -> str:
    """The digest of what `take` gives."""
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def keep(folder: Path, found: Mapping[str, Any]) -> dict[str, Any]:
    """Write down what a study learns from; gives the attribute by which the study knows it."""
    store.write_json(folder / FILE, found)
    return {"digest": digest(found), "lines": found["lines"]}


def begin(plan: Plan, space: Space, settings: Settings) -> dict[str, Any] | None:
    """Take and write down what a new study learns from; None where it is to learn from none."""
    if not plan.warm_start:
        return None
    folder = settings.study_folder(plan.study)
    before: dict[str, Any] | None = ((store.read_json(folder / "study.json") or {}).get("attributes") or {}).get(WARM)
    if before and digest(store.read_json(folder / FILE) or {}) == before["digest"]:
        return before  # the study was cut off while it was made
    return keep(folder, take(plan, space, settings))


def load(study: optuna.Study, plan: Plan, space: Space, folder: Path) -> Warm:
    """What a study begins with, in the terms of its space as it is now.

    Raises SearchError where that was written down and is gone or damaged.
    """
    noted = study.user_attrs.get(WARM)
    if not noted:
        return Warm()
    found = store.read_json(folder / FILE)
    if found is None or digest(found) != noted["digest"]:
        raise SearchError(
            f"what study {plan.study!r} learns from, {folder / FILE}, is gone or damaged; bring it back: "
            f"python -m search reconcile {plan.study}"
        )
    lessons = [_lesson(each, space, plan) for each in found["lessons"]]
    first = [(each["from"], _proposal(each, space, plan)) for each in found["first"]]
    return Warm(
        tuple(lesson for lesson in lessons if lesson is not None),
        tuple((where, proposal) for where, proposal in first if proposal is not None),
    )


def _proposal(said: Mapping[str, Any], space: Space, plan: Plan) -> engine.Proposal | None:
    """None where the space has changed since and it does not fit any more."""
    try:
        found = fit(space, said["values"] | said["aside"], plan.narrowings)
    except Misfit:
        return None
    return known(space, found.values, plan.narrowings)


def _lesson(said: Mapping[str, Any], space: Space, plan: Plan) -> FrozenTrial | None:
    proposal = _proposal(said, space, plan)
    if proposal is None:
        return None
    return optuna.trial.create_trial(
        state=TrialState[said["state"]],
        values=said["results"],
        params=proposal.params,
        distributions=proposal.distributions,
        intermediate_values={int(step): value for step, value in said["epochs"].items()},
        constraints=said["constraints"] or None,
        user_attrs={FROM: said["from"]} | ({"config.hash": config_hash(proposal.config)} if said["same"] else {}),
    )


# ---- mending


def mend(study: optuna.Study, folder: Path, text: str | None) -> str | None:
    """Bring `warm.json` back from its copy in MLflow, the text of it; gives a line where something was mended.

    Raises SearchError where both are gone.
    """
    noted = study.user_attrs.get(WARM)
    if not noted:
        return None
    found = store.read_json(folder / FILE)
    if found is not None and digest(found) == noted["digest"]:
        return None
    try:
        copy = json.loads(text or "")
    except ValueError:
        copy = None
    if isinstance(copy, dict):
        copy.pop("crc", None)
        if digest(copy) == noted["digest"]:
            store.write_json(folder / FILE, copy)
            return f"{FILE} (what it learns from) was gone or damaged; made again from MLflow"
    raise SearchError(f"{FILE}, what it learnt from ({'; '.join(noted['lines'])}), is gone from everywhere")
