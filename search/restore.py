"""What a trial was, put together from what is left of it: its folder, its row in the study store, its run in MLflow."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search import repeats, store, versions, warm, whole
from search.engines import keras_tuner
from search.engines import optuna as engine
from search.engines.scheduler import UNTIL
from search.goals import Figures, Goals, final, is_final
from search.mirror import REASON, STATUS, TOLD
from search.plan import Plan
from search.ranking import BEST_EPOCH, FIGURES, TRAINED
from search.trial.schedule import best_epoch
from spaces import Space, config_hash
from spaces.datasets import describe
from tracking.audit import Found

STATIC = (
    *("config", "config.hash", "seed", "asked.seed", "asks", "epochs", "parameters", "baseline", "milestones"),
    *(versions.ASSUMED, versions.ASIDE, versions.BEGAN_AS, warm.FROM),
    *("patience", repeats.REPEAT_OF, repeats.REPEAT_TRIAL, repeats.REPEAT_INDEX, engine.NOTED, keras_tuner.ASKED),
)
NEEDED = ("config", "config.hash", "seed", "epochs", "parameters")
RUNG = "completed_rung_"  # how Optuna's pruners that compare at rungs note one


@dataclass
class Remains:
    """All that is left of one trial; `text` reads an artifact of its run."""

    number: int
    folder: Path
    row: FrozenTrial | None
    run: Found | None
    text: Callable[[str], str | None]
    record: dict[str, Any] | None = field(default=None)

    @property
    def ended(self) -> TrialState | None:
        """The state that MLflow says it ended in, where its status and its tag agree."""
        named = self.run.tags.get("search.trial.state", "") if self.run else ""
        state = TrialState[named] if named in TrialState.__members__ else None
        return state if state and self.run and state.is_finished() and STATUS[state] == self.run.status else None


# ---- which configuration it was


def record(left: Remains, space: Space, plan: Plan) -> tuple[dict[str, Any] | None, str]:
    """The trial's record and where it was found; None where nothing says which configuration it was.

    `trial.json` itself is found at "", a copy in MLflow next; else the configuration is looked for and everything
    else follows from it, from the plan and from the number.
    """
    for where, stored in _copies(left):
        if _is_record(stored, left.number):
            return stored, where
    for where, config in _configs(left, space, plan):
        with contextlib.suppress(Exception):  # whatever a space's own code raises: then it is not the one
            return _derived(left, config, space, plan), where
    return None, ""


def _copies(left: Remains) -> Iterator[tuple[str, Any]]:
    yield "", store.read_json(left.folder / "trial.json")
    if left.run and "trial.json" in left.run.artifacts:
        yield "MLflow", whole.parsed(left.text("trial.json") or "")
    if left.row is not None and left.row.params:
        kept = {k: left.row.user_attrs[k] for k in (*STATIC, engine.POSITION) if k in left.row.user_attrs}
        yield (
            "the study store",
            engine.record(left.number, left.row.params, left.row.distributions, {"attempts": 0} | kept),
        )


def _is_record(stored: Any, number: int) -> bool:
    """Whether a record is whole: all there, and its configuration the one that its hash names."""
    if not isinstance(stored, dict) or stored.get("number") != number:
        return False
    attributes, params, distributions = (stored.get(k) for k in ("attributes", "params", "distributions"))
    if not (isinstance(attributes, dict) and isinstance(params, dict) and isinstance(distributions, dict)):
        return False
    if any(name not in attributes for name in (*NEEDED, "asked.seed")) or set(params) != set(distributions):
        return False
    config = attributes["config"]
    if not isinstance(config, dict) or config_hash(config) != attributes["config.hash"]:
        return False
    if not all(type(attributes[name]) is int for name in ("seed", "epochs", "parameters")):
        return False
    try:
        engine.restored(stored, state=TrialState.RUNNING)
    except Exception:  # whatever Optuna raises for what is no distribution of its, or has another value
        return False
    return all(_agrees(config[name], value) for name, value in params.items() if name in config)


def _agrees(one: Any, other: Any) -> bool:
    """Whether a configuration's value is the parameter drawn: a stepped one differs in its last digit."""
    if isinstance(one, float) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    return bool(one == other)


def _configs(left: Remains, space: Space, plan: Plan) -> Iterator[tuple[str, dict[str, Any]]]:
    stored = store.read_json(left.folder / "trial.json") or {}
    attributes = stored.get("attributes")
    if isinstance(attributes, dict) and isinstance(attributes.get("config"), dict):
        yield "trial.json", attributes["config"]
    if left.row is not None and isinstance(left.row.user_attrs.get("config"), dict):
        yield "the study store", left.row.user_attrs["config"]
    for path in sorted(left.folder.glob("attempt-*.json")):
        found = (store.read_json(path) or {}).get("config")
        if isinstance(found, dict):
            yield path.name, found
    if left.run and "config.json" in left.run.artifacts:
        found = _parsed(left.text("config.json"))
        if isinstance(found, dict):
            yield "MLflow", found
    if left.row is not None and left.row.params:
        with contextlib.suppress(Exception):
            yield "the study store", engine.replay(space, left.row.params, plan.narrowings).config


def _derived(left: Remains, config: dict[str, Any], space: Space, plan: Plan) -> dict[str, Any]:
    """The record of a configuration: seeds follow from the study's and the number, the rest from the plan."""
    drawn = left.row.params if left.row else {}
    proposal = _replayed(drawn, config, space, plan) or _replayed(config, config, space, plan)
    if proposal is None:
        raise ValueError("this space does not draw it")
    baseline = next((b for b in space.baselines if config_hash(_drawn(b, space, plan)) == config_hash(config)), None)
    epochs = plan.epochs
    if baseline is not None:
        epochs = min(baseline.epochs, plan.epochs) if baseline.always else baseline.epochs
    known = {k: v for k, v in (left.row.user_attrs if left.row else {}).items() if k in (*STATIC, engine.POSITION)}
    attributes: dict[str, Any] = {
        "seed": engine.derive(plan.seed, "trial", left.number),
        "asked.seed": None,
        "asks": 0,
        "epochs": epochs,
        "parameters": space.params(config, describe(space.dataset)),
        "attempts": 0,
    }
    if plan.repeats:
        attributes |= repeats.draw(plan, space, left.number)[1]
    elif baseline is not None:
        attributes |= {"baseline": baseline.name, "milestones": list(baseline.milestones)}
    attributes |= known | {"config": config, "config.hash": config_hash(config)}
    return engine.record(left.number, proposal.params, proposal.distributions, attributes)


def _replayed(params: Mapping[str, Any], config: dict[str, Any], space: Space, plan: Plan) -> engine.Proposal | None:
    """The proposal that these parameters make, where it is this configuration."""
    with contextlib.suppress(Exception):
        proposal = engine.replay(space, params, plan.narrowings)
        return proposal if config_hash(proposal.config) == config_hash(config) else None
    return None


def _drawn(baseline: Any, space: Space, plan: Plan) -> dict[str, Any]:
    with contextlib.suppress(Exception):
        return engine.replay(space, baseline.config, plan.narrowings).config
    return {}


# ---- what happened to it


def recorded(folder: Path, metric: str) -> tuple[list[dict[str, Any]], int]:
    """(what a trial's record has of its events, how many lines of it are damaged); an epoch needs its `metric`."""
    found, damaged = store.read_events(folder)
    kept = [event for event in found if event["event"] != "epoch" or metric in event["metrics"]]
    return kept, damaged + len(found) - len(kept)


def events(
    left: Remains,
    have: Sequence[dict[str, Any]],
    goals: Goals,
    known: Figures,
    names: Set[str],
    provenance: str,
) -> tuple[list[dict[str, Any]], list[str]]:
    """The events that the trial's record has with those that it lost, and a line for what is gone from everywhere.

    `known` are the figures of its configuration, `names` are the metrics that other trials of the study have,
    `provenance` is what it began with if it lost that.
    """
    new = [*_attempts(left, have, provenance), *_started(left, have)]
    new += [*_epochs(left, have, goals.metric), *_verdict(left, have)]
    new += _measured(left, have, [*have, *new], goals, known)
    new += _finished(left, have, [*have, *new])
    everything = [event for _, event in sorted(enumerate([*have, *new]), key=lambda e: (e[1]["time"], e[0]))]
    judged = [event["figures"] for event in new if event["event"] == "measured"]
    lost = [name for figures in judged for name in goals.names if name not in figures]
    lines = [f"trial {left.number}: gone from everywhere: {', '.join(lost)}"] if lost else []
    return everything, _gone(left, have, everything, names) + lines


def _attempts(left: Remains, have: Sequence[Mapping[str, Any]], provenance: str) -> list[dict[str, Any]]:
    """That it was begun. Attempts before the last that are gone are not counted again."""
    if any(e["event"] == "attempt" for e in have):
        return []
    specs = len(list(left.folder.glob("attempt-*.json")))
    tags = left.run.tags if left.run else {}
    told = tags.get("search.trial.attempts", "0")
    row = int(left.row.user_attrs.get("attempts", 0)) if left.row else 0
    number = max(specs, row, int(told) if told.isdigit() else 0)
    if not number and not (left.run and left.run.metrics):
        return []
    began = _start(left)
    first = min((e["time"] for e in have), default=None)
    began = began if began is not None and (first is None or began <= first) else (first or began or 0.0)
    device = tags.get("search.device", "")
    event: dict[str, Any] = {"event": "attempt", "time": began, "attempt": max(number, 1), "slot": device}
    return [{**event, "devices": {}, "provenance": provenance}]


def _started(left: Remains, have: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Which data it was split from, which its run says."""
    split = left.run.tags.get("search.data.split", "") if left.run else ""
    if not split or any(e["event"] == "started" for e in have):
        return []
    begun = [e["time"] for e in have if e["event"] == "attempt"]
    return [{"time": begun[0] if begun else _start(left) or 0.0, "event": "started", "split": split}]


def _epochs(left: Remains, have: Sequence[Mapping[str, Any]], metric: str) -> list[dict[str, Any]]:
    known = {event["epoch"] for event in have if event["event"] == "epoch"}
    there: dict[int, tuple[float, dict[str, float]]] = {}
    for key, points in (left.run.metrics if left.run else {}).items():
        for point in points if not is_final(key) else ():
            there.setdefault(point.step, (point.timestamp / 1000, {}))[1].setdefault(key, point.value)
    for step, value in (left.row.intermediate_values if left.row else {}).items():
        there.setdefault(step - 1, (_end(left) or _start(left) or 0.0, {}))[1].setdefault(metric, value)
    return [
        {"time": at, "event": "epoch", "epoch": epoch, "metrics": metrics}
        for epoch, (at, metrics) in sorted(there.items())
        if epoch not in known and metric in metrics
    ]


def _measured(
    left: Remains,
    have: Sequence[Mapping[str, Any]],
    every: Sequence[Mapping[str, Any]],
    goals: Goals,
    known: Figures,
) -> list[dict[str, Any]]:
    """What a complete trial is judged by: what the stores have of it, the rest from its epochs and configuration."""
    row = left.row if left.row is not None and left.row.state.is_finished() else None
    state = row.state if row is not None else left.ended
    if goals.plain or state != TrialState.COMPLETE or any(e["event"] == "measured" for e in have):
        return []
    history = [e["metrics"] for e in _in_order(every)]
    found: dict[str, float] = {}
    unknown = {"latency_ms": math.nan}  # only a worker measures it
    with contextlib.suppress(KeyError):  # an epoch lost what is asked for
        told = goals.figures(history, known, unknown) if history else {}
        found = {name: value for name, value in told.items() if not math.isnan(value)}
    for name in goals.names:
        points = left.run.metrics.get(final(name), []) if left.run else []
        found |= {name: points[-1].value} if points else {}
    if row is not None:
        found |= dict(zip((o.name for o in goals.objectives), row.values or (), strict=False))
        found |= row.user_attrs.get(FIGURES, {})
    best = best_epoch(history, goals.metric, goals.direction) if history else 0
    at = _end(left) or max((e["time"] for e in every), default=0.0)
    return [{"time": at, "event": "measured", "figures": found, "best_epoch": best}]


def _verdict(left: Remains, have: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the pruner noted of it, which the study store has."""
    known = notes(have)
    row = left.row.system_attrs if left.row else {}
    lost = {k: v for k, v in row.items() if k.startswith(RUNG) and k not in known}
    at = _end(left) or max((e["time"] for e in have), default=0.0)
    found = [{"time": at, "event": "verdict", "epochs": 0, "prune": False, "notes": lost}] if lost else []
    return found + _rests(left, have, at)


def _rests(left: Remains, have: Sequence[Mapping[str, Any]], at: float) -> list[dict[str, Any]]:
    """Where it rests, and how it was gone on with, which the study store has."""
    attrs, said = left.row.user_attrs if left.row else {}, store.standing(have)
    found: list[dict[str, Any]] = []
    more = attrs.get(keras_tuner.MORE, [])[len(said.get(keras_tuner.MORE, [])) :]
    for entry in more:
        until = attrs.get(UNTIL) if entry is more[-1] else entry.get("until")
        found.append({"event": "promoted", "epochs": entry.get("from", 0), "until": until, keras_tuner.ASKED: entry})
    audited, rests = attrs.get(engine.AUDITED), attrs.get(engine.RESTS)
    if audited is not None and audited != said.get(engine.AUDITED):
        found.append({"event": "verdict", "epochs": audited, "prune": False, "notes": {}, "audited": True})
    if rests is not None and rests != said.get(engine.RESTS):
        found.append({"event": "verdict", "epochs": rests, "prune": False, "notes": {}, "rest": True})
    elif rests is None and engine.RESTS in attrs and not more and said.get(engine.RESTS, 0) is not None:
        found.append({"event": "promoted", "epochs": said.get(engine.RESTS, 0)})
    return [{"time": at, **event} for event in found]


def _finished(
    left: Remains, have: Sequence[Mapping[str, Any]], every: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    if any(e["event"] == "finished" for e in have):
        return []
    row = left.row if left.row is not None and left.row.state.is_finished() else None
    state = row.state if row is not None else left.ended
    if state is None:
        return []
    tags = left.run.tags if left.run else {}
    said: dict[str, Any] = {"attempts": sum(e["event"] == "attempt" for e in every)}
    said |= {name: tags[f"search.trial.{name}"] for name in (REASON, "error") if f"search.trial.{name}" in tags}
    constraints = {}
    if row is not None:
        said |= {k: v for k, v in row.user_attrs.items() if k in (*TOLD, "memory")}
        constraints = row.constraints
    last = max((e["time"] for e in every), default=0.0)
    at = max(_end(left) or last, last)
    return [{"time": at, "event": "finished", "state": state.name, "attributes": said, "constraints": constraints}]


def _gone(
    left: Remains, have: Sequence[Mapping[str, Any]], every: Sequence[Mapping[str, Any]], others: Set[str]
) -> list[str]:
    """What of the epochs that were read back is not to be had any more."""
    recorded = {e["epoch"]: set(e["metrics"]) for e in every if e["event"] == "epoch"}
    before = {e["epoch"] for e in have if e["event"] == "epoch"}
    spoken = set(left.run.metrics) if left.run else set()
    names = set(others).union(*recorded.values()) | {n for n in spoken if not is_final(n)}
    lines = []
    for epoch in sorted(set(recorded) - before):
        lost = sorted(names - recorded[epoch])
        if lost or len(names) == 1:
            which = ", ".join(lost) or "all but the objective"
            lines.append(f"trial {left.number}: epoch {epoch}: gone from everywhere: {which}")
    gaps = sorted(set(range(max(recorded, default=-1) + 1)) - set(recorded))
    return [*lines, *(f"trial {left.number}: epoch {epoch} is gone from everywhere" for epoch in gaps)]


def _start(left: Remains) -> float | None:
    if left.row is not None and left.row.datetime_start:
        return left.row.datetime_start.timestamp()
    return left.run.started / 1000 if left.run else None


def _end(left: Remains) -> float | None:
    if left.row is not None and left.row.datetime_complete:
        return left.row.datetime_complete.timestamp()
    return left.run.ended / 1000 if left.run and left.run.ended else None


def notes(recorded: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the pruner noted of a trial, by its events."""
    found: dict[str, Any] = {}
    for event in recorded:
        if event["event"] == "verdict":
            found |= event["notes"]
    return found


# ---- its row


def row(left: Remains, recorded: Sequence[Mapping[str, Any]], goals: Goals) -> FrozenTrial:
    """The trial as the study store must have it. Needs its `record`; `recorded` are its events."""
    assert left.record is not None
    ends = [e for e in recorded if e["event"] == "finished"]
    begun = [e for e in recorded if e["event"] == "attempt"]
    epochs = {e["epoch"]: e["metrics"][goals.metric] for e in _in_order(recorded)}
    judged = next((e for e in recorded if e["event"] == "measured"), None)
    attributes: dict[str, Any] = {"attempts": max((e["attempt"] for e in begun), default=0), "state": "paused"}
    state, constraints = TrialState.RUNNING, None
    values: list[float] | None = None
    if ends:
        state = TrialState[ends[-1]["state"]]
        attributes |= ends[-1].get("attributes", {})
        constraints = ends[-1].get("constraints")
    attributes |= left.row.user_attrs if left.row else {}
    attributes |= store.standing(recorded)
    if state == TrialState.RUNNING:
        attributes["state"] = "paused"
    if not goals.by_epoch and epochs:
        attributes[TRAINED] = max(attributes.get(TRAINED, 0), len(epochs))
    if state == TrialState.COMPLETE and judged is not None:
        attributes |= {FIGURES: judged["figures"], BEST_EPOCH: judged["best_epoch"]}
        constraints = goals.constraints(judged["figures"]) | (constraints or {})
    if state == TrialState.COMPLETE:
        values = _values(left, recorded, epochs, goals, judged)
        state = TrialState.FAIL if values is None else state
    elif state == TrialState.PRUNED and goals.by_epoch and epochs and math.isfinite(epochs[max(epochs)]):
        values = [epochs[max(epochs)]]  # as Optuna does where a trial is told so
    fixed = left.record["attributes"]
    made = engine.restored(
        left.record,
        state=state,
        values=values,
        intermediate_values={epoch + 1: value for epoch, value in epochs.items()} if goals.by_epoch else {},
        constraints=constraints or None,
        user_attrs={k: v for k, v in attributes.items() if k not in fixed or k in ("attempts", UNTIL)},
        system_attrs=dict(notes(recorded)),
    )
    return _timed(made, left, recorded)


def _values(
    left: Remains,
    recorded: Sequence[Mapping[str, Any]],
    epochs: Mapping[int, float],
    goals: Goals,
    judged: Mapping[str, Any] | None,
) -> list[float] | None:
    """The values of a complete trial: as they were written down; None where that is gone from everywhere."""
    if goals.plain:
        value = _best(left, recorded, epochs, goals)
        return None if value is None else [value]
    figures = judged["figures"] if judged is not None else {}
    return goals.values(figures) if all(o.name in figures for o in goals.objectives) else None


def _best(
    left: Remains, recorded: Sequence[Mapping[str, Any]], epochs: Mapping[int, float], goals: Goals
) -> float | None:
    """The value of a complete trial: of its epochs where all are there, else what the stores say."""
    best = max if goals.direction == "maximize" else min
    everything = {e["epoch"] for e in recorded if e["event"] == "epoch"}
    if epochs and set(epochs) == everything:
        return best(epochs.values())
    if left.row is not None and left.row.state == TrialState.COMPLETE and left.row.values:
        return left.row.values[0]
    told = left.run.metrics.get(f"best_{goals.metric}", []) if left.run else []
    return told[-1].value if told else (best(epochs.values()) if epochs else None)


def _in_order(recorded: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Epoch events up to the first gap, each once, as `store.epochs` has them."""
    by_epoch: dict[int, Mapping[str, Any]] = {}
    for event in recorded:
        if event["event"] == "epoch":
            by_epoch.setdefault(event["epoch"], event)
    found: list[Mapping[str, Any]] = []
    while len(found) in by_epoch:
        found.append(by_epoch[len(found)])
    return found


def _timed(trial: FrozenTrial, left: Remains, recorded: Sequence[Mapping[str, Any]]) -> FrozenTrial:
    """With its own times instead of now: the store's, else MLflow's end, else those of its record."""
    begins = [e["time"] for e in recorded if e["event"] == "attempt"]
    ends = [e["time"] for e in recorded if e["event"] == "finished"]
    if left.row is not None and left.row.datetime_start:
        trial.datetime_start = left.row.datetime_start
    elif begins:
        trial.datetime_start = datetime.fromtimestamp(begins[0])
    end = _end(left) or (ends[-1] if ends else None)
    if trial.state.is_finished() and end:
        trial.datetime_complete = datetime.fromtimestamp(end)
    return trial


def differences(found: FrozenTrial, expected: FrozenTrial) -> list[str]:
    """In what a stored trial differs from what it must be; what only the store knows is not looked at."""
    wrong = []
    if found.state != expected.state:
        wrong.append(f"state {found.state.name}, not {expected.state.name}")
    elif not _all_same(found.values or (), expected.values or ()):
        wrong.append("value")
    if found.params != expected.params or found.distributions != expected.distributions:
        wrong.append("parameters")
    if any(found.user_attrs.get(k, "") != v for k, v in expected.user_attrs.items()):
        wrong.append("attributes")
    if any(not _same(found.intermediate_values.get(k), v) for k, v in expected.intermediate_values.items()):
        wrong.append("epochs")
    if expected.constraints and found.constraints != expected.constraints:
        wrong.append("constraints")
    if any(k.startswith(RUNG) and found.system_attrs.get(k) != v for k, v in expected.system_attrs.items()):
        wrong.append("the pruner's notes")
    return wrong


def placeholder(found: FrozenTrial | None) -> FrozenTrial:
    """What keeps the number of a trial of which nobody knows what it was."""
    if found is None:
        return optuna.trial.create_trial(state=TrialState.FAIL, user_attrs={engine.REFUSED: "lost"})
    return optuna.trial.create_trial(
        state=found.state if found.state == TrialState.PRUNED else TrialState.FAIL,
        params=found.params,
        distributions=found.distributions,
        user_attrs=dict(found.user_attrs) | {engine.REFUSED: "lost"},
        system_attrs=dict(found.system_attrs),
    )


def _all_same(one: Sequence[float], other: Sequence[float]) -> bool:
    return len(one) == len(other) and all(map(_same, one, other))


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return one == other or (math.isnan(one) and math.isnan(other))


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text or "")
    except ValueError:
        return None
