"""What is known of each thing that a comparison names: a study's best trial, a trial, a version of a model."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from search import links, ranking, report, shown, store, versions
from search.errors import InputError
from search.goals import final
from search.plan import noted_data
from search.settings import Settings
from search.trained import epochs
from spaces import Space, find
from spaces.datasets import describe
from spaces.errors import SpaceError
from tracking import audit, probe, registry
from tracking.audit import Found
from tracking.client import Connection
from tracking.errors import TrackingAway, TrackingError
from tracking.faults import told
from tracking.registry import Version

KINDS = "STUDY, STUDY:3, STUDY:*, NAME@champion or NAME/3"
SETUP = ("epochs", "train_images", "validation_images", "precision", "seed", "milestone_epochs")  # params of a run
NOT_CONFIGURED = {*SETUP, "parameters"}

History = Sequence[Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One trial, or the trial that a version was made of.

    `reference` names it again; `name` is its study or model, `part` which of these, `known` its baseline or aliases.
    `setup` is how it was trained apart from its configuration, None where unknown. `digest` is that of the whole data,
    `split` that of the images it was trained and validated on. `value` is its best of `metric`, `figures` what
    it is judged by where that is more. Only a version has figures on the test split.
    """

    reference: str
    name: str
    part: str
    known: str
    kind: str
    study: str | None
    trial: int | None
    state: str
    run_id: str
    config: Mapping[str, Any]
    setup: Mapping[str, Any]
    digest: str | None
    split: str | None
    metric: str
    direction: str
    value: float | None
    parameters: int | None
    history: History
    figures: Mapping[str, float] = field(default_factory=dict)
    test_accuracy: float | None = None
    test_interval: tuple[float, float] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> int | None:
        """Index of its first best epoch by the objective; None without a finite value."""
        sign = 1 if self.direction == "maximize" else -1
        found = [(sign * e[self.metric], -i) for i, e in enumerate(self.history) if is_number(e.get(self.metric))]
        return -max(found)[1] if found else None

    @property
    def label(self) -> str:
        """Its reference, with what it is known as."""
        return f"{self.reference} ({self.known})" if self.known else self.reference


def read(references: Sequence[str], settings: Settings) -> tuple[list[Compared], list[str]]:
    """Everything that is named, once each, in order, and a line for each thing that could not be known.

    Raises InputError with every problem: an unknown study, trial or version, a study without a complete trial, MLflow
    away where a version is named. Raises TrackingAway where MLflow goes away meanwhile.
    """
    reader = _Reader(settings)
    found: dict[str, Compared] = {}
    for reference in references:
        for thing in reader.read(reference.strip()):
            if thing.reference in found and not reference.endswith(":*"):
                reader.notes.append(f"{thing.reference} is named more than once")
            found.setdefault(thing.reference, thing)
    if reader.problems:
        raise InputError(list(dict.fromkeys(reader.problems)))
    notes = list(dict.fromkeys(reader.notes))
    if reader.lost:
        where = "neither in the trial's folder nor, at the moment, in MLflow"
        notes.append(f"epochs that are {where}: of {', '.join(dict.fromkeys(reader.lost))}")
    return list(found.values()), notes


def is_version(reference: str) -> bool:
    """Whether a reference means a version of a model; its form alone says so."""
    return "@" in reference or "/" in reference


def is_number(value: Any) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, (int, float)) and math.isfinite(value)


class _Reader:
    """Reads references, collecting problems and notes instead of stopping at the first."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.lost: list[str] = []  # trials whose epochs are nowhere
        self._studies: dict[str, Any] = {}
        self._mlflow: list[str | None] = []

    def read(self, reference: str) -> list[Compared]:
        if is_version(reference):
            return self._version(reference)
        said = re.fullmatch(r"([^:]+)(?::(\d+|\*))?", reference)
        if said is None:
            self.problems.append(f"{reference!r}: give {KINDS}")
            return []
        study = self._study(said[1])
        return [] if study is None else self._trials(study, said[2])

    # ---- trials

    def _study(self, name: str) -> Any:
        if name not in self._studies:
            self._studies[name] = None
            try:
                self._studies[name] = report.load(name, self.settings)
            except InputError as error:
                self.problems += error.problems
        return self._studies[name]

    def _trials(self, study: Any, which: str | None) -> list[Compared]:
        name, leading, complete = study.study_name, ranking.ranked(study), ranking.complete(study)
        goals = shown.goals_of(study)
        if which not in (None, "*"):
            trials = study.get_trials(deepcopy=False)
            if int(which) >= len(trials):
                there = f"trials 0 to {len(trials) - 1}" if trials else "no trials"
                self.problems.append(f"{name}:{which}: study {name!r} has {there}")
                return []
            return [self._trial(study, versions.thawed(trials[int(which)]))]
        chosen = leading[:1] if which is None else complete
        if not chosen:
            self.problems.append(shown.none_within(name, complete, goals))
        elif which is None and goals.several:
            front, first = len(ranking.front(study)), goals.objectives[0].name
            self.notes.append(f"{name}: of {front} trials on its front the best {first}, trial {chosen[0].number}")
        return [self._trial(study, trial) for trial in chosen]

    def _trial(self, study: Any, trial: Any) -> Compared:
        name, plan, attrs = study.study_name, study.user_attrs["plan"], trial.user_attrs
        goals = shown.goals_of(study)
        judged = {} if goals.plain else shown.figures(trial, goals)
        if over := goals.over(ranking.figures_of(trial)):
            self.notes.append(f"{name}:{trial.number} is {over}")
        folder = store.trial_folder(self.settings.study_folder(name), trial.number)
        reference, run_id, space = (
            f"{name}:{trial.number}",
            links.run_id(study, trial),
            _space(plan["space"], plan.get("dataset")),
        )
        data = _described(space)
        noted = noted_data(study.user_attrs)
        if noted is not None and data is not None and data.digest != noted:
            data = None  # the images have changed since
        history: History = [event["metrics"] for event in store.epochs(folder)]
        if not history and ranking.epochs(trial):
            history = self._history_of_run(reference, run_id)
        splits = [event["split"] for event in store.events(folder) if event["event"] == "started"]
        spec = store.read_json(folder / "attempt-1.json") or {}
        setup = {
            "space": space.name if space else plan["space"],
            "dataset": space.dataset if space else None,
            "train_images": plan["train_limit"] or (data.fitting_size if data else None),
            "validation_images": plan["validation_limit"] or (data.validation_size if data else None),
            "backend": plan["backend"],
            "precision": plan["precision"],
            "epochs": attrs.get("epochs"),
            "milestone_epochs": ",".join(map(str, attrs.get("milestones", ()))) or None,
            "seed": attrs.get("seed"),
        }
        return Compared(
            reference=reference,
            name=name,
            part=f"trial {trial.number}",
            known=attrs.get("baseline", ""),
            kind="trial",
            study=name,
            trial=trial.number,
            state=trial.state.name,
            run_id=run_id,
            config=attrs.get("config", {}),
            setup=setup,
            digest=noted or (data.digest if data else None),
            split=splits[-1] if splits else None,
            metric=spec.get("metric") or (goals.metric if space else "objective"),
            direction=goals.direction,
            value=ranking.value_of(trial, study) if goals.by_epoch else ranking.figures_of(trial).get(goals.metric),
            figures=judged,
            parameters=attrs.get("parameters"),
            history=history,
        )

    def _history_of_run(self, reference: str, run_id: str) -> History:
        """A trial's epochs as MLflow has them; none, with a note, where it cannot be asked."""
        try:
            found = None if not run_id or self._mlflow_problem() else self._run(run_id)
        except TrackingError:
            found = None
        history = [] if found is None else epochs(found)
        if not history:
            self.lost.append(reference)
        return history

    # ---- versions

    def _version(self, reference: str) -> list[Compared]:
        if problem := self._mlflow_problem():
            self.problems.append(problem)
            return []
        try:
            version = registry.find(self.settings.tracking_uri, reference)
        except TrackingAway:
            raise
        except TrackingError as error:
            self.problems.append(str(error))
            return []
        found = self._run(version.run_id) if version.run_id else None
        if found is None:
            self.notes.append(f"{version.name}/{version.version}: the run it was made of is not in MLflow")
        return [self._of_version(version, found)]

    def _of_version(self, version: Version, found: Found | None) -> Compared:
        tags = (found.tags if found else {}) | version.tags
        params = found.params if found else {}
        space = _space(tags.get("search.space", ""))
        metric = _metric(found) or (space.metric if space else "val_accuracy")
        fallback = "minimize" if metric.endswith("loss") else "maximize"
        number = tags.get("search.trial.number", "")
        value = tags.get(f"search.{metric}") or _last(found, f"best_{metric}")
        setup = {
            "space": tags.get("search.space"),
            "dataset": tags.get("search.dataset") or (space.dataset if space else None),
            "backend": tags.get("search.backend"),
            **{name: _value(params[name]) if name in params else None for name in SETUP},
            "milestone_epochs": params.get("milestone_epochs"),
        }
        return Compared(
            reference=f"{version.name}/{version.version}",
            name=version.name,
            part=f"version {version.version}",
            known=", ".join(version.aliases),
            kind="version",
            study=tags.get("search.study"),
            trial=int(number) if number.isdigit() else None,
            state=tags.get("search.trial.state", "COMPLETE"),
            run_id=version.run_id,
            config=self._config(found) if found else {},
            setup=setup,
            digest=tags.get("search.data.digest"),
            split=tags.get("search.data.split"),
            metric=metric,
            direction=tags.get("search.direction") or (space.direction if space else fallback),
            value=_number(value),
            parameters=_whole(params.get("parameters") or tags.get("search.parameters")),
            history=epochs(found) if found else [],
            figures=_judged(found),
            test_accuracy=_number(tags.get("search.test.accuracy")),
            test_interval=_interval(tags.get("search.test.accuracy.interval", "")),
            tags=version.tags,
        )

    def _config(self, found: Found) -> dict[str, Any]:
        """The configuration as it was written down; as the run's parameters say where that file is gone."""
        try:
            read = json.loads(audit.text(self._connection(), found.run_id, "config.json") or "")
        except ValueError:
            read = None
        if isinstance(read, dict):
            return read
        return {name: _value(text) for name, text in found.params.items() if name not in NOT_CONFIGURED}

    def _run(self, run_id: str) -> Found | None:
        """A run. Raises TrackingError with one line."""
        with told(self.settings.tracking_uri):
            return audit.run(self._connection(), run_id)

    def _connection(self) -> Connection:
        return Connection(self.settings.tracking_uri, "", self.settings.artifacts)

    def _mlflow_problem(self) -> str | None:
        """Why MLflow cannot be asked; looked at once. A database that is not there is not made."""
        if not self._mlflow:
            uri = self.settings.tracking_uri
            path = probe.sqlite_path(uri) if uri.startswith("sqlite") else None
            missing = f"no MLflow database yet at {path}" if path is not None and not path.is_file() else None
            self._mlflow.append(missing or probe.problem(uri))
        return self._mlflow[0]


@cache
def _space(reference: str, dataset: str | None = None) -> Space | None:
    """A space; None where its file is gone or broken."""
    try:
        return find(reference, dataset)
    except SpaceError:
        return None


def _described(space: Space | None) -> Any:
    try:
        return describe(space.dataset) if space else None
    except SpaceError:
        return None


def _metric(found: Found | None) -> str | None:
    """The metric that chose a run's best epoch: as a tag says, else the one whose best value was logged."""
    if found is None:
        return None
    best = next((key[len("best_") :] for key in found.metrics if key.startswith("best_")), None)
    return found.tags.get("search.metric") or best


def _judged(found: Found | None) -> dict[str, float]:
    """What a trial was judged by, where that is more than the best of its epochs; as its run says."""
    tags = found.tags if found else {}
    said = ", ".join(filter(None, (tags.get("search.objectives"), tags.get("search.limits"))))
    names = [match[0] for text in said.split(", ") if (match := re.match(r"\w+", text))]
    values = {name: _last(found, final(name)) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _last(found: Found | None, key: str) -> float | None:
    points = found.metrics.get(key, []) if found else []
    return points[-1].value if points else None


def _value(text: str) -> Any:
    """A parameter of a run as it was before it became text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # no Python value, or one nested beyond reason
        return text


def _number(said: Any) -> float | None:
    try:
        value = float(said)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _whole(said: Any) -> int | None:
    value = _number(said)
    return None if value is None else int(value)


def _interval(text: str) -> tuple[float, float] | None:
    low, _, high = text.partition(" to ")
    ends = _number(low), _number(high)
    return None if ends[0] is None or ends[1] is None else (ends[0], ends[1])
